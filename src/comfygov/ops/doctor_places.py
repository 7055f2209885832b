"""The disk and the file system that a home is on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import GovError
from comfygov.ops.doctor_check import Check
from comfygov.ports import filesystem, fs, lock
from comfygov.ports.uv import Uv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context

_LITTLE_DISK_BYTES = 10 << 30
"""An environment with torch takes about 6 GB, and a trial one more as far as it differs."""

_LINKS = {True: "hardlinks, and reflinks too", False: "hardlinks: trials and models take no room twice"}


def disk(context: Context | None) -> Iterator[Check]:
    place = _place(context)
    free = fs.free_bytes(place)
    little = free < _LITTLE_DISK_BYTES
    advice = ("gov gc --dry-run shows what can go",) if little and context else ()
    yield Check("disk", "warn" if little else "pass", f"{free / 1e9:.1f} GB are free at {place}", (), advice)


def file_system(context: Context | None) -> Iterator[Check]:
    """A trial is a hardlinked copy of the environment, and a model a reflink or hardlink of the cache's blob."""
    place = _place(context)
    try:
        found = filesystem.abilities(context.home.state if context else place)
    except OSError as error:
        said = fs.explain_os_error(error, place)
        yield Check("file system", "warn", said.message, (), (said.hint,))
        return
    if found.hardlinks:
        yield Check("file system", "pass", f"{place} has {_LINKS[found.reflinks]}")
    else:
        words = f"{place} has no hardlinks: every trial copies the environment (6 GB with torch)"
        yield Check("file system", "warn", words, (), ("put the home on a disk with ext4, XFS, Btrfs or APFS",))
    yield from _package_cache(context, place)
    if context and not lock.works(context.home.lock_file):
        words = f"locks do nothing at {place}: two changing commands at once would not see each other"
        yield Check("locks", "warn", words, (), ("move the home to a local disk",))


def _package_cache(context: Context | None, place: Path) -> Iterator[Check]:
    """uv hardlinks packages from its cache; across disks it copies them."""
    try:
        cache = (context.uv if context else Uv()).cache_folder()
    except GovError:
        return  # the check of uv says it
    if cache.is_dir() and not filesystem.same_disk(cache, place):
        words = f"{cache} is on another disk than {place}: packages are copied, not linked"
        yield Check("package cache", "warn", words, (), ("set UV_CACHE_DIR to a folder on the disk of the home",))


def _place(context: Context | None) -> Path:
    return context.home.root if context else Path.cwd()
