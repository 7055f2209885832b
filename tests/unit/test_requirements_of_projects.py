"""pyproject.toml of a pack, real files of any bytes, and text that nobody meant to be requirements."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfygov.ports.git import Git
from comfygov.resolve.requirements import Declared, read_declared, suggestion

from .conftest import Upstream

PROJECT = """
[project]
name = "pack"
requires-python = ">=3.10"
dependencies = ["numpy>=1.26 ; python_version < '3.13'", "einops=>0.1", "foo[bar]"]
[tool.comfy]
requires-comfyui = ">=0.3.60"
"""


def of(files: dict[str, str]) -> Declared:
    def read_file(path: str) -> str | None:
        return files.get(path)

    return read_declared(read_file)


def test_pyproject_dependencies_are_read_where_there_is_no_requirements_file() -> None:
    declared = of({"pyproject.toml": PROJECT})
    assert declared.requirements == ["numpy>=1.26 ; python_version < '3.13'", "foo[bar]"]
    assert [(line.file, line.line, line.text) for line in declared.malformed] == [("pyproject.toml", 2, "einops=>0.1")]
    assert (declared.requires_python, declared.requires_comfyui) == (">=3.10", ">=0.3.60")


def test_a_requirements_file_wins_even_when_it_is_empty() -> None:
    assert of({"pyproject.toml": PROJECT, "requirements.txt": ""}).requirements == []
    declared = of({"pyproject.toml": PROJECT, "requirements.txt": "a"})
    assert declared.requirements == ["a"]
    assert declared.requires_comfyui == ">=0.3.60"


def test_an_install_script_is_seen() -> None:
    assert of({"install.py": ""}).has_install_script
    assert not of({}).has_install_script


def test_broken_toml_is_rejected_with_its_line() -> None:
    declared = of({"pyproject.toml": "[project]\nname = \n"})
    assert declared.rejected[0].file == "pyproject.toml"
    assert "line 2" in declared.rejected[0].reason


@pytest.mark.parametrize("text", ["[project]\ndependencies = 'numpy'", "[project]\ndependencies = [1]", "[tool]\n"])
def test_a_project_of_the_wrong_types_does_no_harm(text: str) -> None:
    of({"pyproject.toml": text})


@pytest.mark.parametrize("text", ["project = 'x'", "tool = 3", "[tool]\ncomfy = ['x']"])
def test_tables_that_are_none_do_no_harm(text: str) -> None:
    of({"pyproject.toml": text})


def test_bytes_that_are_no_utf8_are_read_as_far_as_they_go(upstream: Upstream, git: Git) -> None:
    (upstream.path / "requirements.txt").write_bytes("numpy  # für\n".encode("latin-1") + b"p\xe4ck\npillow\n")
    commit = upstream.commit({})
    repository = git.fetch(upstream.source)
    declared = read_declared(lambda path: git.show(repository, commit, path))
    assert declared.requirements == ["numpy", "pillow"]
    assert [line.line for line in declared.malformed] == [2]


WORDS = st.sampled_from(
    [
        *("numpy", "a-b", "==1", ">=2", "=>", " ", "\t", "\\", "#", "--", "-r ", "--hash=", "-e", "@", "https://h/x"),
        *(
            "git+",
            "[x]",
            ";",
            "python_version<'3'",
            "\r",
            "\n",
            "\ufeff",
            "'",
            '"',
            "../",
            "/",
            "requirements.txt",
            "=",
        ),
    ]
)
TEXTS = st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=12).map("".join))


# Includes and lone dashes have tests of their own.
def _known(text: str) -> bool:
    return any(line.split("#")[0].rstrip(" \t\\").endswith("--") for line in text.splitlines()) or "-r" in text


@given(TEXTS)
@example("numpy\\")
@example("x @ ")
@example("-r ")
def test_no_text_at_all_raises(text: str) -> None:
    if not _known(text):
        declared = of({"requirements.txt": text})
        assert all(line.file and line.reason for line in (*declared.rejected, *declared.malformed))
        assert all(line == line.strip() and line for line in declared.requirements)


@given(TEXTS)
def test_a_suggestion_never_raises(text: str) -> None:
    suggestion(text)


@given(TEXTS)
def test_no_pyproject_text_raises(text: str) -> None:
    if "=" not in text:
        of({"pyproject.toml": text})


@given(st.text(max_size=30))
def test_no_include_reaches_outside(name: str) -> None:
    asked: list[str] = []

    def read_file(path: str) -> str | None:
        asked.append(path)
        return f"-r {name}" if path == "requirements.txt" and len(asked) < 50 else None

    read_declared(read_file)
    for path in asked:
        assert not path.startswith("/")
        assert ".." not in Path(path).parts
