"""The private code tree of a trial: production's commits and the change, in `state/work/TXID/ComfyUI`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.ports.git import Git, parse_source
from comfygov.truth import checkouts

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import Plugin
    from comfygov.truth.home import Home
    from comfygov.truth.snapshots import State


def make(home: Home, git: Git, state: State, target: Path) -> None:
    """Clone ComfyUI and every enabled pack of `state` to `target`, borrowing the objects."""
    pin = state.declared.comfyui
    origin = git.origin(home.comfyui) or str(home.comfyui)
    git.clone(home.comfyui, target, pin.commit, origin, shared=True)
    (target / "custom_nodes").mkdir(exist_ok=True)
    for plugin in state.registry.enabled():
        _place_pack(home, git, plugin, target / "custom_nodes" / plugin.id)


def _place_pack(home: Home, git: Git, plugin: Plugin, target: Path) -> None:
    source = parse_source(plugin.source, home.root)
    checkouts.ensure_cached(git, source, plugin.commit)
    checkouts.place(git, source, plugin.commit, target, shared=True)
