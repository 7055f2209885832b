"""Wheels that no index has: kept by their sums in the cache that all homes share, and laid beside a clone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.model.version import WHEELS
from comfygov.ops.version_capture import file_sum
from comfygov.ports import fs
from comfygov.truth.home import cache_root
from comfygov.truth.settings import read_config
from comfygov.versions import portable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from comfygov.model.version import VersionLock
    from comfygov.ops.version_find import Found


def place_of(name: str, checksum: str) -> Path:
    """Where the cache keeps the wheel `name` with this `sha256:…`."""
    return cache_root() / "wheels" / checksum.removeprefix("sha256:") / name


def keep(lock: VersionLock, local: dict[str, Path]) -> None:
    """Have a copy of each local wheel in the cache: the folder that it came from may change."""
    for name, checksum in portable.local_sums(lock.python.packages).items():
        kept = place_of(name, checksum)
        if not kept.is_file() and name in local:
            with fs.explained(kept):
                _copy(local[name], kept)


def lay(lock: VersionLock, target: Path, given: Iterable[Path]) -> None:
    """Put the wheels that travel beside the lock into `target`, from the cache or one of `given`, by their sums."""
    wanted = portable.local_sums(lock.python.packages)
    missing = []
    places = [Path(folder) for folder in given]
    for name, checksum in wanted.items():
        found = next(_candidates(name, checksum, places), None)
        if found is None:
            missing.append(f"{name} ({checksum})")
            continue
        with fs.explained(target):
            _copy(found, target / name)
    if missing:
        raise GovError(
            Code.NOT_FOUND,
            "wheels that no index has are not here",
            "name the folder that has them with --wheels-dir, or clone from a bundle",
            tuple(missing),
        )


def folders(found: Found, wheels_dir: str | None) -> list[Path]:
    """Where wheels that no index has may lie, beside the cache."""
    given = [Path(wheels_dir).expanduser().absolute()] if wheels_dir else []
    if found.home is not None:
        links = read_config(found.home / "config.toml").python.find_links
        given += [Path(entry) for entry in links if entry.startswith("/")]
    return [*given, found.path.parent / WHEELS]


def _candidates(name: str, checksum: str, folders: list[Path]) -> Iterator[Path]:
    for path in (place_of(name, checksum), *(folder / name for folder in folders)):
        if path.is_file() and f"sha256:{file_sum(path)}" == checksum:
            yield path


def is_right(lock: VersionLock, name: str, path: Path) -> bool:
    """Whether the file at `path` is the local wheel `name` of the lock."""
    wanted = portable.local_sums(lock.python.packages).get(name)
    return path.is_file() and f"sha256:{file_sum(path)}" == wanted


def _copy(source: Path, target: Path) -> None:
    """A hardlink where there can be one: what reads the file checks its sum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = fs.beside(target, "tmp")
    temporary.unlink(missing_ok=True)
    fs.link_or_copy(os.path.realpath(source), str(temporary))
    temporary.replace(target)
    fs.fsync_directory(target.parent)
