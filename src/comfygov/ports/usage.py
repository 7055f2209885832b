"""Disk use as the disk sees it: a file with several names is there once, and goes with its last name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own blocks are (POSIX stat.h)."""


class Freeing:
    """Adds up what removing several trees gives back."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], int] = {}

    def add(self, path: Path) -> int:
        """The bytes that come free when `path` goes after all that was added before it."""
        return sum(self._freed(facts) for facts in _facts(str(path)))

    def _freed(self, facts: os.stat_result) -> int:
        if facts.st_nlink == 1:
            return facts.st_blocks * _BLOCK_BYTES
        key = (facts.st_dev, facts.st_ino)
        self._seen[key] = self._seen.get(key, 0) + 1
        return facts.st_blocks * _BLOCK_BYTES if self._seen[key] == facts.st_nlink else 0


def _facts(path: str) -> Iterator[os.stat_result]:
    """Of every file below `path`; links are not followed, folders count as nothing."""
    if os.path.islink(path) or not os.path.isdir(path):  # noqa: PTH112, PTH114 (40 000 files)
        yield os.lstat(path)
        return
    pending = [path]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False)
