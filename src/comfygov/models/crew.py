"""Several threads that end together: at the first error that concerns all, or when the person interrupts."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
_LOOK_SECONDS = 0.2
_END_SECONDS = 15.0


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
            raise GovError(Code.INTERRUPTED, "interrupted", "run it again: what has arrived is kept")

    def sleep(self, seconds: float) -> None:
        self._event.wait(seconds)
        self.check()


def run(
    jobs: Iterable[T], work: Callable[[T], None], threads: int, stop: Stop, idle: Callable[[], None] = lambda: None
) -> None:
    """Call `work` for each job in `threads` threads; `idle` is called several times a second meanwhile.

    The first exception of a job stops the others and is raised here; a Ctrl-C does the same. The threads are daemons:
    one that a dead network file system holds does not keep the command from ending.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    errors: list[BaseException] = []

    def serve() -> None:
        while not errors:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                stop.check()
                work(job)
            except BaseException as error:  # noqa: BLE001 (it is raised in the thread that waits)
                errors.append(error)
                stop.now()

    crew = [threading.Thread(target=serve, daemon=True) for _ in range(min(threads, waiting.qsize()))]
    _work_and_wait(crew, stop, idle)
    if errors:
        raise errors[0]


def _work_and_wait(crew: list[threading.Thread], stop: Stop, idle: Callable[[], None]) -> None:
    try:
        for thread in crew:
            thread.start()
        for thread in crew:
            while thread.is_alive():
                thread.join(_LOOK_SECONDS)
                idle()
    except BaseException:
        stop.now()
        for thread in crew:
            if thread.ident is not None:
                thread.join(_END_SECONDS)
        raise
