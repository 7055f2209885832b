"""Which home governs a ComfyUI: written into its .git, because two would undo each other's changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import fs
from comfygov.ports.git import git_folder
from comfygov.truth import settings
from comfygov.truth.home import Home, is_home

if TYPE_CHECKING:
    from comfygov.ops.context import Context

_MARK = "comfygov-home"


def refuse_governed(comfyui: Path, root: Path) -> None:
    """Refuse a ComfyUI that another living home governs. Writes nothing."""
    other = _named(comfyui)
    if other is None or _is_same(other, root) or not is_home(other):
        return
    if _comfyui_of(other).resolve() != comfyui.resolve():
        return  # that home was copied or moved, and has a ComfyUI of its own
    raise GovError(
        Code.ALREADY_EXISTS,
        f"{comfyui} is governed by {other} already, and two homes would undo each other's changes",
        f"gov status --home {other}",
    )


def claim(context: Context) -> None:
    """Refuse as above; otherwise this home, which may have been moved, is the one from now on."""
    comfyui, root = context.home.comfyui, context.home.root.absolute()
    refuse_governed(comfyui, root)
    folder = git_folder(comfyui)
    if folder is not None and _named(comfyui) != root:
        fs.write_if_changed(folder / _MARK, f"{root}\n".encode())


def _named(comfyui: Path) -> Path | None:
    folder = git_folder(comfyui)
    try:
        return Path((folder / _MARK).read_text(encoding="utf-8").strip()) if folder else None
    except (OSError, ValueError):
        return None  # a mark that cannot be read names nobody


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _comfyui_of(root: Path) -> Path:
    return Home(root, settings.read_config(root / "config.toml")).comfyui
