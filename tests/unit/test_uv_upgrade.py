"""What an older lock holds back, and what `upgrade` lets go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from comfygov.ports.uv import Uv
from comfygov.resolve.torch_family import locked_versions
from tests.kit.wheels import add_wheel

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """
[project]
name = "comfy-env"
version = "0"
requires-python = ">=3.10"
dependencies = ["one", "two"]
[tool.uv]
package = false
no-index = true
find-links = ["{wheels}"]
"""


@pytest.mark.parametrize(
    ("upgrade", "one", "two"), [((), "1.0", "1.0"), (("one",), "2.0", "1.0"), (("one", "two"), "2.0", "2.0"),
                                (("*",), "2.0", "2.0")],
)  # fmt: skip
def test_only_what_is_named_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upgrade: tuple[str, ...], one: str, two: str
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    project, wheels = tmp_path / "project", tmp_path / "wheels"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT.format(wheels=wheels))
    for version in ("1.0", "2.0"):
        for name in ("one", "two"):
            add_wheel(wheels, name, version)
        if version == "1.0":
            assert Uv().lock(project, sys.executable).verdict == "locked"
    assert Uv().lock(project, sys.executable, upgrade).verdict == "locked"
    found = locked_versions((project / "uv.lock").read_text())
    assert (found["one"], found["two"]) == (one, two)
