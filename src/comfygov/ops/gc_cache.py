"""What of the caches that all homes of a person share nobody needs: old git objects and bytecode.

A cache is made again from the network, but for a commit that has gone upstream. So a repository goes only
when no home that is known names it and it was not used for a month.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import GovError
from comfygov.ports import clock, clones, fs
from comfygov.ports.git import recorded_source
from comfygov.truth import checkouts, store
from comfygov.truth.home import Home, cache_root, is_home
from comfygov.truth.settings import read_config
from comfygov.truth.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context
    from comfygov.ports.git import Git

UNUSED_DAYS = 30
_DAY_SECONDS = 86_400


class KnownHome(msgspec.Struct, frozen=True):
    """`homes/ID.json` in the cache: a home that uses it."""

    path: str


def remember_home(root: Path) -> None:
    """Note in the cache that this home uses it. A cache that cannot be written keeps no objects either."""
    path = cache_root() / "homes" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:20]}.json"
    if not path.is_file():
        try:
            fs.write_atomic(path, store.encode(KnownHome(str(root))))
        except OSError:
            return


def unused(context: Context) -> Iterator[tuple[Path, str]]:
    """(path, reason) of what may go. When a home cannot be read, what it needs is not known: nothing goes."""
    root = cache_root()
    old = f"not used for {UNUSED_DAYS} days, and no home names it"
    repositories = [path for path in _old(root / "git") if path.suffix == ".git"]
    if repositories:
        needed = _needed(context.git, root)
        if needed is not None:
            yield from ((path, old) for path in repositories if path.name not in needed)
    yield from ((path, f"not used for {UNUSED_DAYS} days") for path in _old(root / "bytecode"))


def missing_homes() -> list[str]:
    """A line for each known home that is not where it was: as long as it is known, no git objects go."""
    found = []
    for record in sorted((cache_root() / "homes").glob("*.json")):
        home = store.load(record, KnownHome).path
        if not is_home(Path(home)):
            found.append(f"git objects: the home {home} is not there (if it is gone for good: rm {record})")
    return found


def idle_models() -> list[str]:
    """A line when models of the cache have no other name. They are not this command's to remove: they cost
    gigabytes to fetch again, perhaps from a source that is gone, and a version may name them."""
    from comfygov.ops.models_place import collect_garbage

    idle = [item for item in collect_garbage("gov gc", dry_run=True).removed if item.kind == "blob"]
    if not idle:
        return []
    amount = f"{sum(item.bytes for item in idle) / 1e9:.2f} GB"
    return [f"models: {amount} of the cache are in no models folder on its disk ({len(idle)} files: gov models gc)"]


def _old(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    limit = clock.wall_seconds() - UNUSED_DAYS * _DAY_SECONDS
    return sorted(path for path in directory.iterdir() if path.is_dir() and path.stat().st_mtime < limit)


def _needed(git: Git, cache: Path) -> set[str] | None:
    """Names of the repositories that known homes have in their snapshots; None when one cannot be asked."""
    needed: set[str] = set()
    for record in sorted((cache / "homes").glob("*.json")):
        home = Path(store.load(record, KnownHome).path)
        try:
            if not is_home(home):
                return None  # moved, deleted, or its disk is away: what it needs is not known
            needed |= set(_named_by(git, home))
        except (GovError, OSError):
            return None
    return needed


def _named_by(git: Git, root: Path) -> Iterator[str]:
    home = Home(root, read_config(root / "config.toml"))
    snapshots = Snapshots(home)
    for name in snapshots.ids():
        for _, _, source, commit in checkouts.targets(home, snapshots.read(name)):
            yield from (path.name for path in clones.caches_of(git, recorded_source(source), commit))
