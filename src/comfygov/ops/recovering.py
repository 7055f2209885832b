"""A home that lost its config.toml gets it again: what is declared and built says what it was."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfygov.errors import Code, GovError
from comfygov.model import builds
from comfygov.model.config import Config
from comfygov.truth import settings
from comfygov.truth.home import Home
from comfygov.truth.snapshots import Snapshots

if TYPE_CHECKING:
    from comfygov.ports.progress import Progress


def lost_its_config(root: Path) -> bool:
    return (root / "state" / "head.json").is_file() and not (root / "config.toml").exists()


def config_is_lost(root: Path) -> GovError:
    return GovError(
        Code.HOME_DAMAGED,
        f"{root} lost its config.toml",
        f"gov init --path {shlex.quote(str(root))} writes it anew from what the home is (a ComfyUI elsewhere: "
        "with --comfyui-dir)",
    )


def write_again(root: Path, comfyui_dir: str | None, progress: Progress) -> None:
    """Settings that decide what is resolved come back from head; all others are the defaults again."""
    if not comfyui_dir and not (root / "ComfyUI").is_dir():
        raise GovError(
            Code.HOME_DAMAGED,
            f"{root} lost its config.toml, and its ComfyUI is not in it",
            f"gov init --path {shlex.quote(str(root))} --comfyui-dir DIR",
        )
    snapshots = Snapshots(Home(root, Config()))
    head = snapshots.require_head()
    declared = snapshots.read(head.snapshot).declared
    python: dict[str, Any] = {
        "interpreter": str((root / ".venvs" / head.generation / "bin" / "python").resolve()),
        "constraints": list(declared.constraints),
        "find_links": list(declared.find_links),
        "index_url": declared.index_url,
        "exclude_newer": declared.exclude_newer,
        "torch_backends": builds.settings(declared.torch_backend, declared.torch_backends),
        "platforms": builds.beyond_one(declared.environments),
    }
    changes: dict[str, dict[str, Any]] = {"python": {name: value for name, value in python.items() if value}}
    if comfyui_dir:
        changes["paths"] = {"comfyui_dir": str(Path(comfyui_dir).expanduser().absolute())}
    if declared.source_builds:
        changes["policy"] = {"source_builds": "allow"}
    settings.update_config(root / "config.toml", changes)
    progress.warn("config.toml was lost and is written anew: look through it, other settings are the defaults")
