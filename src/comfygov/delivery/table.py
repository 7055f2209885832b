"""The jobs of a worker that is asked over HTTP: waiting, running, done, and kept until somebody has read them."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from comfygov.delivery.deadline import Cancelled
from comfygov.delivery.failure import JobFailed, as_output, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfygov.delivery.deadline import Deadline
    from comfygov.delivery.events import Report
    from comfygov.model.delivery import JobResult

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]
DONE: tuple[Status, ...] = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
BUCKETS_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_READ_SECONDS = 3.0
_STATUS_OF: dict[str, Status] = {"cancelled": "CANCELLED", "timeout": "TIMED_OUT"}


class Refused(Exception):
    """The job is not taken: the worker goes away, or too many wait. `status` is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Record:
    """One job. Times are monotonic seconds; `output` is JSON that is ready to be sent; `size` is what
    its input takes of memory, in bytes, `checksum` its sha256 where the client named the job. `is_retryable`: it failed
    for a reason that is not its own."""

    id: str
    raw: object
    deadline: Deadline
    size: int = 0
    checksum: bytes = b""
    is_retryable: bool = False
    taken: float = field(default_factory=time.monotonic)
    status: Status = "IN_QUEUE"
    started: float = 0.0
    ended: float = 0.0
    progress: Report | None = None
    output: msgspec.Raw | None = None
    error: str = ""
    read: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def view(self) -> dict[str, Any]:
        """As RunPod answers `/status`: times in milliseconds."""
        found: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.started:
            found["delayTime"] = round((self.started - self.taken) * 1000)
        if self.ended:
            found["executionTime"] = round((self.ended - (self.started or self.ended)) * 1000)
        if self.output is not None:
            found["output"] = self.output
        elif self.progress is not None and self.status == "IN_PROGRESS":
            found["output"] = self.progress
        return {**found, "error": self.error} if self.error else found


@dataclass
class Limits:
    """`waiting` jobs at most, whose inputs have `hold_bytes` in all; results are kept for `keep_seconds` and up to
    `keep_bytes` in all."""

    concurrency: int = 1
    waiting: int = 1000
    hold_bytes: int = 1_000_000_000
    keep_seconds: float = 1800.0
    keep_bytes: int = 512_000_000


class Table:
    """Runs jobs in threads of its own, as many at once as the limits say."""

    def __init__(
        self, run: Callable[..., JobResult], new_deadline: Callable[[object], Deadline], limits: Limits
    ) -> None:
        self._run = run
        self._new_deadline = new_deadline
        self.limits = limits
        self._records: dict[str, Record] = {}
        self._waiting: deque[Record] = deque()
        self._running: set[str] = set()
        self._changed = threading.Condition()
        self._closed = ""
        self._coming_bytes = 0
        self.ended: dict[str, int] = dict.fromkeys(DONE, 0)
        self.seconds: list[int] = [0] * (len(BUCKETS_SECONDS) + 1)
        self.seconds_in_all = 0.0
        for number in range(limits.concurrency):
            threading.Thread(target=self._work, daemon=True, name=f"job {number}").start()

    # -- for the outside ---------------------------------------------------------------------------

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Memory for an input of `size` bytes while it is read; afterwards its job has it. Raises Refused."""
        with self._changed:
            held = self._coming_bytes + sum(record.size for record in self._records.values())
            if held and held + size > self.limits.hold_bytes:
                raise Refused(429, f"inputs of {held:,} bytes wait already")
            self._coming_bytes += size
        try:
            yield
        finally:
            with self._changed:
                self._coming_bytes -= size

    def submit(self, job_id: str, raw: object, size: int = 0, checksum: bytes = b"") -> Record:
        """Take a job. An id that is known already is that job, since whoever lost our answer may ask again; it is done
        anew when it failed for a reason that is not its own. Raises Refused, also for another input under that id."""
        with self._changed:
            known = self._records.get(job_id)
            if known is not None and known.checksum != checksum:
                raise Refused(409, f"there is a job `{job_id}` already, with another input")
            if known is not None and (self._closed or not known.is_retryable):
                return known
            if self._closed:
                raise Refused(503, self._closed)
            if len(self._waiting) >= self.limits.waiting:
                raise Refused(429, f"{len(self._waiting)} jobs wait already")
            record = Record(job_id, raw, self._new_deadline(raw), size, checksum)
            self._records[job_id] = record
            self._waiting.append(record)
            self._forget_old()
            self._changed.notify_all()
        return record

    def get(self, job_id: str) -> Record | None:
        with self._changed:
            self._forget_old()
            return self._records.get(job_id)

    def cancel(self, job_id: str) -> Record | None:
        record = self.get(job_id)
        if record is not None:
            self._end(record, Cancelled())
        return record

    @property
    def counts(self) -> tuple[int, int]:
        """How many wait, and how many run."""
        with self._changed:
            return len(self._waiting), len(self._running)

    def close(self, reason: str, grace_seconds: float) -> None:
        """Take no more jobs; hand back those that wait; let those that run end, and hand them back after the grace.
        Until then results that nobody has read can be read."""
        until = time.monotonic() + grace_seconds
        with self._changed:
            self._closed = reason
            waiting = list(self._waiting)
        for record in waiting:
            self._end(record, Cancelled(reason, retryable=True))
        with self._changed:
            self._changed.wait_for(lambda: not self._running, max(0.0, until - time.monotonic()))
            left = [self._records[name] for name in self._running]
        for record in left:
            record.deadline.cancel(Cancelled(reason, retryable=True))
        for record in left:
            record.done.wait(10)
        if left:
            until = max(until, time.monotonic() + _READ_SECONDS)  # who asks for them has not been told yet
        with self._changed:
            self._changed.wait_for(self._all_read, max(0.0, until - time.monotonic()))

    def mark_read(self, record: Record) -> None:
        with self._changed:
            record.read = record.read or record.status in DONE
            self._changed.notify_all()

    # -- threads -----------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                record = self._waiting.popleft()
                record.status, record.started = "IN_PROGRESS", time.monotonic()
                self._running.add(record.id)
            self._do(record)

    def _do(self, record: Record) -> None:
        def report(progress: Report) -> None:
            record.progress = progress

        try:
            result = self._run(record.id, record.raw, record.deadline, report)
            self._finish(record, msgspec.json.encode(result), "COMPLETED")
        except JobFailed as failure:
            self._fail(record, failure)
        except Exception as mistake:  # noqa: BLE001 (the thread has more jobs to do)
            self._fail(record, JobFailed("internal", f"comfygov made a mistake: {mistake!r}"))

    def _fail(self, record: Record, failure: JobFailed) -> None:
        error = failure.error
        record.is_retryable = error.retryable
        status = _STATUS_OF.get(error.code, "FAILED")
        self._finish(record, msgspec.json.encode(as_output(error)), status, sentence(error))

    def _end(self, record: Record, why: Cancelled) -> None:
        """Cancel: at once when it waits, by its deadline when it runs."""
        with self._changed:
            waits = record in self._waiting
            if waits:
                self._waiting.remove(record)
        if waits:
            self._fail(record, why)
        else:
            record.deadline.cancel(why)

    def _finish(self, record: Record, data: bytes, status: Status, error: str = "") -> None:
        with self._changed:
            record.ended = time.monotonic()
            record.output, record.status, record.error = msgspec.Raw(data), status, error
            record.raw, record.size = None, 0  # inputs may be large
            self._running.discard(record.id)
            self.ended[status] += 1
            took = record.ended - record.taken
            self.seconds_in_all += took
            self.seconds[sum(took > bound for bound in BUCKETS_SECONDS)] += 1
            record.done.set()
            self._changed.notify_all()

    def _all_read(self) -> bool:
        return all(record.read for record in self._records.values() if record.status in DONE)

    def _forget_old(self) -> None:
        """Results that were kept long enough; then of what is too much those that were read, and the oldest."""
        now = time.monotonic()
        done = [record for record in self._records.values() if record.status in DONE]
        kept = sum(len(record.output or b"") for record in done)
        for record in sorted(done, key=lambda record: (not record.read, record.ended)):
            if now - record.ended > self.limits.keep_seconds or kept > self.limits.keep_bytes:
                kept -= len(record.output or b"")
                del self._records[record.id]
