"""How far a download or a check is: bytes, rate, remaining time, as one line that is renewed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfygov.ports.progress import Progress

_RATE_SECONDS = 5.0
_SHOW_SECONDS = 0.2


class Meter:
    """Adds up what several threads do. `total` is in bytes, and 0 as long as it is not known."""

    def __init__(self, progress: Progress, word: str, files: int, total: int) -> None:
        self._progress = progress
        self._word = word
        self._files = files
        self._total = total
        self._lock = threading.Lock()
        self._bytes = 0
        self._done = 0
        self._marks: list[tuple[float, int]] = [(time.monotonic(), 0)]

    def add(self, count: int) -> None:
        """`count` bytes more; fewer when something starts over."""
        with self._lock:
            self._bytes += count

    def grow(self, count: int) -> None:
        """There are `count` bytes more to do than was known."""
        with self._lock:
            self._total += count

    def file_done(self) -> None:
        with self._lock:
            self._done += 1

    def show(self) -> None:
        """Pass the line on, at most five times a second."""
        now = time.monotonic()
        if now - self._marks[-1][0] < _SHOW_SECONDS:
            return
        self._marks = [mark for mark in self._marks if now - mark[0] < _RATE_SECONDS] + [(now, self._bytes)]
        self._progress.update(self.line())

    def line(self) -> str:
        """`fetching 3 of 8 files: 1.2 of 4.0 GB, 85.3 MB/s, 35 s left`."""
        (began, had), (now, has) = self._marks[0], self._marks[-1]
        rate = max(0.0, (has - had) / (now - began)) if now > began else 0.0
        done = min(self._done + 1, self._files)
        amount = f"{_size(self._bytes)} of {_size(self._total)}" if self._total else _size(self._bytes)
        left = f", {_duration((self._total - self._bytes) / rate)} left" if rate and self._total > self._bytes else ""
        return f"{self._word} {done} of {self._files} files: {amount}, {_size(int(rate))}/s{left}"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
