"""The private code tree of a trial: production's commits and the change, in `state/work/TXID/ComfyUI`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.ports import clones
from comfygov.ports.source import without_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.ports.git import Git, Source
    from comfygov.trial.bytecode import BytecodeCache


@dataclass(frozen=True)
class Pack:
    """A pack at the commit at which the trial shall see it."""

    name: str
    source: Source
    commit: str


def make(git: Git, comfyui: Path, commit: str, packs: Sequence[Pack], target: Path, cache: BytecodeCache) -> None:
    """Clone ComfyUI from the repository `comfyui` and every pack to `target`, borrowing the objects."""
    origin = without_credentials(git.origin(comfyui)) or str(comfyui)
    git.clone(comfyui, target, commit, origin, shared=True)
    (target / "custom_nodes").mkdir(exist_ok=True)
    cache.lay_in(target, commit, without="custom_nodes")
    for pack in packs:
        clones.ensure_cached(git, pack.source, pack.commit)
        folder = target / "custom_nodes" / pack.name
        clones.place_pack(git, pack.source, pack.commit, folder, shared=True)
        if folder.is_dir():
            cache.lay_in(folder, pack.commit)
