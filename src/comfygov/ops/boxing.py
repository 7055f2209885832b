"""The sandbox of a trial as this home's settings want it, and what a trial has to see of the disk."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.ports import desk
from comfygov.ports.uv import mapped_files
from comfygov.trial import sandbox
from comfygov.trial.limits import Limits, memory_bytes
from comfygov.trial.view import view
from comfygov.truth.home import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context

# Of production's own tree: what its users made. A pack on trial has nothing to look for there.
_USERS_FOLDERS = ("user", "output", "temp")


def box(context: Context, environment: Path | None = None) -> sandbox.Sandbox:
    """The sandbox for a trial in `environment`; without one, for finding out which sandbox it will be."""
    tx, home = context.config.tx, context.home
    if environment is None:
        return sandbox.choose(tx.sandbox, tx.network)
    python = Path(context.interpreter.path)
    libraries = mapped_files(context.interpreter.path)
    needed = [
        home.root,
        home.comfyui,
        environment,
        *libraries,
        python.parent.parent,
        cache_root() / "git",
        desk.INSIDE,
        *_models(context),
    ]
    # A remote's address holds a token where somebody cloned with one.
    repositories = (home.comfyui, *home.custom_nodes.glob("*"))
    private = [*(home.comfyui / name for name in _USERS_FOLDERS), home.root / ".env"]
    private += [repository / ".git" / "config" for repository in repositories]
    chosen = sandbox.choose(tx.sandbox, tx.network, view(needed, private))
    return dataclasses.replace(chosen, gpu=tx.gpu == "auto")


def limits(context: Context) -> Limits:
    return Limits(memory_bytes(context.config.tx.memory_limit))


def _models(context: Context) -> Iterator[Path]:
    """Model folders, where links in them lead to, and the places that the person's own path file names."""
    folders = [context.home.models, context.home.comfyui / "models", *_named_in(context.home.comfyui)]
    yield context.home.comfyui / "input"
    for folder in folders:
        yield folder
        yield from _links(folder, depth=2)


def _links(folder: Path, depth: int) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path).resolve()
            elif depth > 1 and entry.is_dir():
                yield from _links(Path(entry.path), depth - 1)


def _named_in(comfyui: Path) -> Iterator[Path]:
    """Folders of extra_model_paths.yaml; one that cannot be read is ComfyUI's to complain about."""
    import yaml

    path = comfyui / "extra_model_paths.yaml"
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
    for section in sections.values() if isinstance(sections, dict) else ():
        values = section if isinstance(section, dict) else {}
        base = Path(os.path.expandvars(str(values.get("base_path", "")))).expanduser()
        for name, value in values.items():
            for line in str(value).split("\n") if name != "is_default" else ():
                if line.strip():
                    yield comfyui / base / Path(os.path.expandvars(line.strip())).expanduser()
