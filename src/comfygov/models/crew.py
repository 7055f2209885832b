"""Several threads that end together: at the first error that concerns all, or when the person interrupts."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
_LOOK_SECONDS = 0.2
_END_SECONDS = 3.0
"""Enough to write down how far each is. One that a server or a disk holds any longer ends with the command."""


class Stop:
    """Told to everybody who waits or works in a thread. `on_stop` wakes those who wait for a server."""

    def __init__(self, on_stop: Callable[[], None] = lambda: None) -> None:
        self._event = threading.Event()
        self._on_stop = on_stop

    def now(self) -> None:
        self._event.set()
        self._on_stop()

    def check(self) -> None:
        """Raises `interrupted` when the command is to end."""
        if self._event.is_set():
            raise interrupted()

    def sleep(self, seconds: float) -> None:
        self._event.wait(seconds)
        self.check()


def interrupted() -> GovError:
    return GovError(Code.INTERRUPTED, "interrupted", "run it again: what has arrived is kept")


def run(
    jobs: Iterable[T], work: Callable[[T], None], threads: int, stop: Stop, idle: Callable[[], None] = lambda: None
) -> None:
    """Call `work` for each job in `threads` threads; `idle` is called several times a second meanwhile.

    The first exception of a job stops the others and is raised here; a Ctrl-C does the same. The threads are daemons:
    one that a dead network file system holds does not keep the command from ending.
    """
    import queue

    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            while not errors:
                job = waiting.get_nowait()
                stop.check()
                work(job)
        except queue.Empty:
            return
        except BaseException as error:  # noqa: BLE001 (it is raised in the thread that waits)
            errors.append(error)
            stop.now()

    _work_and_wait(serve, min(threads, waiting.qsize()), stop, idle)
    if errors:
        raise errors[0]


def _work_and_wait(serve: Callable[[], None], threads: int, stop: Stop, idle: Callable[[], None]) -> None:
    # Not Thread.join: up to Python 3.12 a Ctrl-C inside it makes a thread that works look like one that has ended.
    ended: list[threading.Event] = []
    try:
        for _ in range(threads):
            ended.append(threading.Event())
            threading.Thread(target=_serve_and_tell, args=(serve, ended[-1]), daemon=True).start()
        for event in ended:
            while not event.wait(_LOOK_SECONDS):
                idle()
    except BaseException as error:
        stop.now()
        deadline = time.monotonic() + _END_SECONDS
        for event in ended:
            event.wait(max(0.0, deadline - time.monotonic()))
        if isinstance(error, KeyboardInterrupt):
            raise interrupted() from error
        raise


def _serve_and_tell(serve: Callable[[], None], ended: threading.Event) -> None:
    try:
        serve()
    finally:
        ended.set()
