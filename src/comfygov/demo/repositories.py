"""Writes the trees of the demo: the ComfyUI stand-in and its node packs. No git in here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
IGNORE_FILE: Final = "gitignore"  # stored without its dot: git must not obey it in our own tree


def pack_names() -> list[str]:
    """The node packs that can be written."""
    return sorted(path.name for path in (HERE / "packs").iterdir() if (path / "__init__.py").is_file())


def workflow_path(name: str) -> Path:
    """The embedded workflow of that name, in API format."""
    return HERE / "workflows" / f"{name}.json"


def write_standin(target: Path, requirements: str | None = None, version: str | None = None) -> None:
    """Write the stand-in for ComfyUI into a directory, perhaps with other requirements or another version."""
    _copy(HERE / "standin", target)
    (target / IGNORE_FILE).rename(target / f".{IGNORE_FILE}")
    if requirements is not None:
        (target / "requirements.txt").write_text(_line(requirements), encoding="utf-8")
    if version is not None:
        path = target / "comfyui_version.py"
        path.write_text(f'"""The version this tree claims."""\n\n__version__ = "{version}"\n', encoding="utf-8")


def write_pack(name: str, target: Path) -> None:
    """Write one of the demo's node packs into a directory."""
    if name not in pack_names():
        raise ValueError(f"no demo pack is called {name!r}; there are: {', '.join(pack_names())}")
    _copy(HERE / "packs" / name, target)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"), dirs_exist_ok=True)


def _line(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
