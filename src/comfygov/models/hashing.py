"""Sums of files, on all cores, and remembered by what a change of a file always changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from comfygov.ports import clock, fs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK_BYTES = 1 << 20
_SETTLED_NS = 2_000_000_000
"""File systems count time in ticks of some milliseconds: a younger file may change again within its tick."""
_MAX_REMEMBERED = 100_000


def sha256_of(path: Path, seen: Callable[[int], None]) -> str:
    """The sum of a file's content; `seen` is told each block's bytes, and may raise to stop."""
    import hashlib  # OpenSSL costs 3 ms, and what is remembered needs no sum

    digest = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            seen(count)
    return digest.hexdigest()


class Remembered(msgspec.Struct, array_like=True):
    """A sum, and the size and mtime (ns) of the file when it was made."""

    size: int
    mtime_ns: int
    checksum: str


class Memory:
    """Sums by device and inode. Never the truth: a lost or damaged file is made again.

    `known` asks no more than the file's facts, so that 10 000 models are judged in milliseconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = self._load()
        self._fresh: dict[str, Remembered] = {}

    def _load(self) -> dict[str, Remembered]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Remembered])
        except (OSError, msgspec.MsgspecError):
            return {}

    def known(self, facts: os.stat_result) -> str | None:
        """The sum of the file that `facts` are of, if it was made before and the file has not changed since."""
        key = _key(facts)
        entry = self._fresh.get(key) or self._found.get(key)
        if entry is None or (entry.size, entry.mtime_ns) != (facts.st_size, facts.st_mtime_ns):
            return None
        return entry.checksum

    def remember(self, facts: os.stat_result, checksum: str) -> None:
        """`facts` are from before the file was read."""
        if clock.wall_seconds() * 1e9 - facts.st_mtime_ns > _SETTLED_NS:
            self._fresh[_key(facts)] = Remembered(facts.st_size, facts.st_mtime_ns, checksum)

    def save(self) -> None:
        """Keep what is new, together with what other commands have kept meanwhile."""
        if not self._fresh:
            return
        kept = {**self._load(), **self._fresh}
        recent = dict(list(kept.items())[-_MAX_REMEMBERED:])
        try:
            fs.write_atomic(self._path, msgspec.json.encode(recent))
        except OSError:
            return  # a cache that cannot be written only costs time
        self._found, self._fresh = recent, {}


def _key(facts: os.stat_result) -> str:
    return f"{facts.st_dev}:{facts.st_ino}"
