"""The names that a home knows, read from its files alone: what a shell offers after TAB must come at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from comfygov.errors import GovError
from comfygov.model.state import Registry
from comfygov.truth import store
from comfygov.truth.home import find_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Kind = Literal["transactions", "snapshots", "packs", "versions"]
_LOCK_PREFIX, _LOCK_SUFFIX = "comfy-", ".lock.json"


def known_names(kind: Kind, home: str | None) -> list[str]:
    """Newest first where names have an order; nothing where there is no home, or it cannot be read."""
    root = find_root(home)
    try:
        return _READERS[kind](root)
    except (OSError, GovError):
        return []


def _transactions(root: Path) -> list[str]:
    names = (name.removesuffix(".json") for name in os.listdir(root / "state" / "transactions"))
    return sorted((name for name in names if name[2:].isdigit()), key=lambda name: -int(name[2:]))


def _snapshots(root: Path) -> list[str]:
    return sorted((name for name in os.listdir(root / "snapshots") if name[:4].isdigit()), reverse=True)


def _packs(root: Path) -> list[str]:
    return [pack.id for pack in store.load(root / "state" / "plugins.json", Registry).plugins]


def _versions(root: Path) -> list[str]:
    names = sorted(os.listdir(root / "lockfiles"))
    return [name[len(_LOCK_PREFIX) : -len(_LOCK_SUFFIX)] for name in names if name.endswith(_LOCK_SUFFIX)]


_READERS: dict[Kind, Callable[[Path], list[str]]] = {
    "transactions": _transactions,
    "snapshots": _snapshots,
    "packs": _packs,
    "versions": _versions,
}
