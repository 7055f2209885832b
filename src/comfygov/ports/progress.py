"""How long work says what it is doing, without knowing who listens."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Progress(Protocol):
    """Receives stages, single lines of news, and warnings."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: str, seconds: float, *, ok: bool) -> None: ...

    def note(self, line: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def update(self, line: str) -> None:
        """How far something is: takes the place of the update before."""


class Silent:
    """Says nothing."""

    def begin(self, stage: str) -> None:
        del stage

    def end(self, stage: str, seconds: float, *, ok: bool) -> None:
        del stage, seconds, ok

    def note(self, line: str) -> None:
        del line

    def warn(self, line: str) -> None:
        del line

    def update(self, line: str) -> None:
        del line


class Stages:
    """Times the stages of one operation and passes them on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report `name` as under way until the block ends, well or not."""
        self._progress.begin(name)
        started = time.monotonic()
        ok = False
        try:
            yield
            ok = True
        finally:
            took = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 3)
            self._progress.end(name, took, ok=ok)
