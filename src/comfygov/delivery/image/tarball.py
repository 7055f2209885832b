"""Tar files that are the same bytes for the same files: sorted, without owners and times."""

from __future__ import annotations

import os
import stat
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCH_SECONDS = 315532800
"""1980-01-01, the first moment that a zip file knows: the time of everything that we put into an image."""


def write(folder: Path, target: Path, only: str | None = None) -> None:
    """Pack the files of `folder` (or the one that is named), without git's own, into `target`."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in _files(folder):
            name = os.path.relpath(path, folder)
            if only in (None, name):
                _add(archive, path, name)


def _files(folder: Path) -> Iterator[str]:
    """Files and links below `folder`, and empty folders; nothing is entered through a link."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]  # noqa: PTH114, PTH118
        for name in sorted({*names, *links} - {".git"}):
            yield os.path.join(top, name)  # noqa: PTH118


def _add(archive: tarfile.TarFile, path: str, name: str) -> None:
    facts = os.lstat(path)
    entry = tarfile.TarInfo(name)
    entry.mtime = EPOCH_SECONDS
    if stat.S_ISLNK(facts.st_mode):
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(path), 0o777  # noqa: PTH115
        archive.addfile(entry)
        return
    entry.size = facts.st_size
    entry.mode = 0o755 if facts.st_mode & stat.S_IXUSR else 0o644
    with open(path, "rb") as file:  # noqa: PTH123 (names may be no UTF-8)
        archive.addfile(entry, file)
