"""When a job has to be over, and whether somebody wants it to be over now."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from comfygov.delivery.failure import JobFailed


class Cancelled(JobFailed):
    """Somebody asked for the end of the job, or the worker goes away (`retryable` then)."""

    def __init__(self, reason: str = "the job was cancelled", *, retryable: bool = False) -> None:
        super().__init__("handed_back" if retryable else "cancelled", reason, retryable=retryable)


@dataclass
class Deadline:
    """`seconds` from its making; `wake` is set to look at it at once."""

    seconds: float
    wake: threading.Event = field(default_factory=threading.Event)
    _started: float = field(default_factory=time.monotonic)
    _cancelled: Cancelled | None = None

    def cancel(self, why: Cancelled | None = None) -> None:
        self._cancelled = self._cancelled or why or Cancelled()
        self.wake.set()

    def left(self) -> float:
        """Seconds; negative when it has passed."""
        return self._started + self.seconds - time.monotonic()

    def passed(self) -> float:
        """Seconds since the job was taken."""
        return time.monotonic() - self._started

    @property
    def is_over(self) -> bool:
        return self._cancelled is not None or self.left() <= 0

    def check(self, during: str) -> None:
        """Raises Cancelled, or JobFailed `timeout` that says what was going on."""
        if self._cancelled is not None:
            raise self._cancelled
        if self.left() <= 0:
            hint = "give the job more time with `timeout`, or the worker with --timeout"
            raise JobFailed("timeout", f"the job did not end in {self.seconds:g} s: {during}", hint)

    def pause(self, seconds: float, during: str) -> None:
        """Wait, but not longer than the job may take, and shorter when it is woken."""
        self.wake.wait(max(0.0, min(seconds, self.left())))
        self.wake.clear()
        self.check(during)
