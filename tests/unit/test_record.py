"""What is installed, and whether it is what the packages say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.envs import record
from comfygov.model.tx import Difference, PackageChange, PackageVersion

from .conftest import Install


def test_a_freeze_names_every_package_canonically(install: Install) -> None:
    install("zope.interface", "7.0")
    install("My_Pack", "1.0+cu130")
    environment = install("torch", "2.11.0+cu130")
    (record.site_packages(environment) / "not-a-package").mkdir()
    assert record.freeze(environment) == ("my-pack==1.0+cu130", "torch==2.11.0+cu130", "zope-interface==7.0")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"url": "file:///w/a.whl", "archive_info": {}}', "a==1 @ file:///w/a.whl"),
        ('{"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "abc"}}', "a==1 @ https://h/r@abc"),
    ],
)
def test_a_direct_source_is_named(text: str, line: str, install: Install) -> None:
    environment = install("a", "1")
    (record.site_packages(environment) / "a-1.dist-info" / "direct_url.json").write_text(text)
    assert record.freeze(environment) == (line,)


def test_no_environment_is_an_empty_one(tmp_path: Path) -> None:
    assert record.freeze(tmp_path) == ()
    assert record.check(tmp_path) == []


VERSIONS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["1", "2", "3 @ file:///x==y"]))


@given(VERSIONS, VERSIONS)
def test_a_difference_leads_from_one_freeze_to_the_other(before: dict[str, str], after: dict[str, str]) -> None:
    old, new = (tuple(f"{n}=={v}" for n, v in found.items()) for found in (before, after))
    found = record.difference(old, new)
    applied = {**before, **{p.name: p.version for p in found.added}, **{c.name: c.after for c in found.changed}}
    for gone in found.removed:
        assert applied.pop(gone.name) == gone.version
    assert applied == after
    assert all(before[change.name] == change.before for change in found.changed)
    assert found.empty() == (before == after)
    assert record.only(tuple("abcdef"), found) == found
    assert record.only((), found).empty()


def test_only_knows_packages_under_each_of_their_names() -> None:
    found = Difference(
        (PackageVersion("a-b", "1"), PackageVersion("x", "1")), (), (PackageChange("onnxruntime-gpu", "1", "2"),)
    )
    kept = record.only(("A_B", "onnxruntime.gpu"), found)
    assert kept.lines() == ["+ a-b 1", "~ onnxruntime-gpu 1 -> 2"]


@pytest.fixture
def environment(install: Install) -> Path:
    install("b", "2", {"b.py": "b = 2\n", "b/with, comma.txt": "text"})
    return install("a", "1", {"a/__init__.py": "a = 1\n", "../../../bin/tool": "#!/bin/sh\n"})


def test_a_whole_environment_has_no_problems(environment: Path) -> None:
    assert record.check(environment, deep_for=None) == []


def test_a_missing_file_and_one_of_another_size_are_found_by_the_quick_check(environment: Path) -> None:
    site = record.site_packages(environment)
    (site / "b" / "with, comma.txt").unlink()
    (site / "a" / "__init__.py").write_text("a = 10\n")
    (environment / "bin" / "tool").unlink()
    assert record.check(environment) == [
        "a 1: a/__init__.py has 7 bytes, RECORD says 6",
        "a 1: ../../../bin/tool is missing",
        "b 2: b/with, comma.txt is missing",
    ]


def test_other_bytes_of_the_same_size_are_found_by_the_deep_check_alone(environment: Path) -> None:
    (record.site_packages(environment) / "b.py").write_text("b = 3\n")
    problem = ["b 2: b.py differs from its RECORD"]
    assert record.check(environment) == []
    assert record.check(environment, deep_for=frozenset({"a"})) == []
    assert record.check(environment, deep_for=frozenset({"b"})) == problem
    assert record.check(environment, deep_for=None) == problem


def test_bytecode_and_the_record_itself_may_change(install: Install) -> None:
    environment = install("a", "1", extra="__pycache__/a.cpython-311.pyc,,\n")
    assert record.check(environment, deep_for=None) == []


def test_a_lost_record_is_a_problem(environment: Path) -> None:
    (record.site_packages(environment) / "a-1.dist-info" / "RECORD").unlink()
    assert record.check(environment) == ["a 1: RECORD is missing"]


@pytest.mark.parametrize("data", [b"", b"a/__init__.py,sha256=x,many\n", b"\xff\xfe\0"])
def test_a_damaged_record_is_a_problem(environment: Path, data: bytes) -> None:
    (record.site_packages(environment) / "a-1.dist-info" / "RECORD").write_bytes(data)
    assert [line for line in record.check(environment) if line.startswith("a 1: ")]


def test_a_damaged_direct_url_does_not_stop_a_freeze(environment: Path) -> None:
    (record.site_packages(environment) / "a-1.dist-info" / "direct_url.json").write_text("{")
    assert [line.split(" ")[0] for line in record.freeze(environment)] == ["a==1", "b==2"]
