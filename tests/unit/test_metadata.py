"""What installed packages say of themselves, and whether they fit each other."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from comfygov.envs import metadata, repacking
from comfygov.envs.metadata import Installed, Needs

if TYPE_CHECKING:
    from tests.unit.conftest import Install


def package(name: str, version: str = "1.0", *needs: str, python: str = "") -> Installed:
    return Installed(name, version, needs, python, "", editable=False, folder=Path("/"))


@pytest.mark.parametrize(
    ("asked", "here", "oldest"),
    [
        ((), "3.11.7", ""),
        ((">=3.9",), "3.11.7", ""),
        ((">=3.11.5", ">=3.11.2,!=3.11.6"), "3.11.9", "3.11.7"),
        (("?",), "3.10.0", ""),
    ],
)
def test_the_oldest_python_that_all_packages_take(asked: tuple[str, ...], here: str, oldest: str) -> None:
    assert metadata.oldest_python([package("a", python=text) for text in asked], here) == oldest


def test_needs_follow_markers_and_extras() -> None:
    there = [
        package(
            "top", "1.0", "low>=2; sys_platform == 'linux'", "never; sys_platform == 'win32'", "more; extra == 'x'"
        ),
        package("low", "1.0"),
        package("more", "1.0", "absent"),
    ]
    needs = Needs(there, {"sys_platform": "linux"})
    assert needs.reach([Requirement("top")]) == {"top", "low"}
    assert needs.reach([Requirement("Top[x]")]) == {"top", "low", "more"}
    assert [str(line) for line in needs.needs_of("more")] == ["absent"]
    assert needs.verdict(Requirement("low>=2")) == "other"
    assert needs.verdict(Requirement("absent")) == "missing"
    assert needs.verdict(Requirement("absent; sys_platform == 'win32'")) == "idle"


def test_a_wheel_of_what_is_installed_has_its_files_and_no_more(install: Install, tmp_path: Path) -> None:
    extra = "../../../bin/odd,sha256=x,3\n../../../share/doc/a.txt,sha256=x,2\npack/__pycache__/m.pyc,,\n"
    environment = install("my-pack", "1.0", {"pack/m.py": "x = 1\n", "pack/a,b.txt": "comma"}, extra)
    info = environment / "lib/python3.11/site-packages/my_pack-1.0.dist-info"
    (info / "WHEEL").write_text(
        "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_x86_64\nTag: cp311-cp311-linux_x86_64\n"
    )
    (info / "INSTALLER").write_text("uv")
    for name, text in (("bin/odd", "#!x"), ("share/doc/a.txt", "hi")):
        (environment / name).parent.mkdir(parents=True)
        (environment / name).write_text(text)
    (found,) = metadata.installed(environment)
    wheel = repacking.repack(environment, found, tmp_path / "wheels")
    assert wheel.name == "my_pack-1.0-cp311-cp311-linux_x86_64.manylinux_2_17_x86_64.whl"
    names = {"my_pack-1.0.dist-info/RECORD", "my_pack-1.0.data/scripts/odd", "my_pack-1.0.data/data/share/doc/a.txt"}
    assert set(zipfile.ZipFile(wheel).namelist()) == {"pack/m.py", "pack/a,b.txt", *names}
    before = wheel.read_bytes()
    assert repacking.repack(environment, found, tmp_path / "wheels").read_bytes() == before
