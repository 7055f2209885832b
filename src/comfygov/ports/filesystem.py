"""What the file system of a folder can do: hardlinks, and files that share their blocks (reflinks)."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.ports import fs

if TYPE_CHECKING:
    from pathlib import Path

_FICLONE = 0x40049409
"""ioctl_ficlone(2): `target` gets the blocks of `source`."""


@dataclass(frozen=True)
class Abilities:
    hardlinks: bool
    reflinks: bool


def reflink(source: int, target: int) -> bool:
    """Let the open file `target` share the blocks of `source`; False where the system cannot (only Linux is asked)."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def abilities(folder: Path) -> Abilities:
    """Try both in `folder` with two files that are gone afterwards. Raises OSError where nothing can be written."""
    probe = fs.beside(folder / "filesystem", "probe")
    other = fs.beside(folder / "filesystem", "link")
    for left in (probe, other):
        left.unlink(missing_ok=True)
    try:
        probe.write_bytes(b"comfygov")
        return Abilities(_hardlinks(probe, other), _reflinks(probe, other))
    finally:
        for made in (probe, other):
            made.unlink(missing_ok=True)


def _hardlinks(probe: Path, other: Path) -> bool:
    try:
        os.link(probe, other)
    except OSError:
        return False
    other.unlink()
    return True


def _reflinks(probe: Path, other: Path) -> bool:
    with probe.open("rb") as source, other.open("wb") as target:
        return reflink(source.fileno(), target.fileno())


def same_disk(one: Path, another: Path) -> bool:
    """Whether a hardlink can lead from one folder to the other, as far as the system says (stat(2), st_dev)."""
    return one.stat().st_dev == another.stat().st_dev
