"""The RunPod serverless worker, by RunPod's own SDK (read and run in versions 1.8 to 1.12).

The SDK runs a plain function inside its event loop, where stop signals and other jobs would wait for it: ours is async
and works in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.delivery import job as jobs
from comfygov.delivery.failure import JobFailed, as_output
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from comfygov.delivery.deadline import Deadline
    from comfygov.delivery.events import Report
    from comfygov.delivery.handler import Handler

_PROGRESS_SECONDS = 2.0
_JOIN_SECONDS = 5.0


def load() -> ModuleType:
    """The SDK, which takes 3 s to import. Raises GovError where it is not installed, or no RunPod is there."""
    is_local = not os.environ.get("RUNPOD_WEBHOOK_GET_JOB") and not os.environ.get("RUNPOD_REALTIME_PORT")
    if is_local and not Path("test_input.json").is_file():
        message = "this is no RunPod worker: RUNPOD_WEBHOOK_GET_JOB is not set, and there is no test_input.json"
        raise GovError(Code.USAGE, message, "gov handler serve --http 127.0.0.1:8000")
    try:
        import runpod
    except ImportError as error:
        message = f"the RunPod worker needs the package runpod, which does not import: {error}"
        raise GovError(Code.TOOL_MISSING, message, "pip install 'comfygov[runpod]', or serve with --http") from error
    return runpod  # type: ignore[no-any-return] # the SDK has no types


def serve(sdk: ModuleType, handler: Handler, *, concurrency: int, stream: bool) -> None:
    """Take jobs until RunPod or a signal ends it. Jobs that run are finished."""
    worker = _Worker(sdk, handler, concurrency)
    config: dict[str, Any] = {"handler": worker.stream if stream else worker.handle}
    if stream:
        config["return_aggregate_stream"] = True
    if concurrency > 1:
        config["concurrency_modifier"] = lambda _current: concurrency
    sys.argv = sys.argv[:1]  # the SDK reads the command line, which is ours
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it logs to standard output, where our result goes
            sdk.serverless.start(config)
    finally:
        worker.pool.shutdown(wait=False)
        _end_pings()


def _end_pings() -> None:
    """The SDK pings from a process of its own, which would go on telling RunPod that this worker is alive."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join(_JOIN_SECONDS)


class _Worker:
    def __init__(self, sdk: ModuleType, handler: Handler, concurrency: int) -> None:
        self._sdk = sdk
        self._handler = handler
        self.pool = ThreadPoolExecutor(max(2, concurrency + 1), thread_name_prefix="job")

    async def handle(self, job: dict[str, Any]) -> dict[str, Any]:
        """One job; its progress is posted every two seconds."""
        posts = _Posts(self._sdk, job)
        return await self._done(job, posts.post, posts.wait)

    async def stream(self, job: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """One job as a stream: progress, then the result."""
        loop = asyncio.get_running_loop()
        reports: asyncio.Queue[Report] = asyncio.Queue()

        def report(progress: Report) -> None:
            loop.call_soon_threadsafe(reports.put_nowait, {"progress": progress})

        running = asyncio.create_task(self._done(job, _seldom(report), lambda: None))
        try:
            while not running.done():
                waiting = asyncio.create_task(reports.get())
                await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    yield waiting.result()
                else:
                    waiting.cancel()
            yield await running
        finally:
            running.cancel()

    async def _done(
        self, job: dict[str, Any], report: Callable[[Report], None], settle: Callable[[], None]
    ) -> dict[str, Any]:
        deadline = self._handler.deadline(job.get("input"))
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.pool, self._run, job, deadline, report, settle)
        except asyncio.CancelledError:
            deadline.cancel()
            raise

    def _run(
        self, job: dict[str, Any], deadline: Deadline, report: Callable[[Report], None], settle: Callable[[], None]
    ) -> dict[str, Any]:
        raw = job.get("input")
        try:
            result: dict[str, Any] = msgspec.to_builtins(self._handler.run(str(job["id"]), raw, deadline, report))
        except JobFailed as failure:
            result = as_output(failure.error)
        settle()
        wants = self._handler.settings.refresh_worker or jobs.wants_fresh(raw)
        if wants or self._handler.supervisor.failure is not None:
            result["refresh_worker"] = True  # the SDK takes it out, and RunPod starts the worker anew
        return result


class _Posts:
    """Progress to RunPod. The SDK posts each in a thread of its own; one that arrived after the result would make the
    job run again in RunPod's eyes, so that all of them are waited for."""

    def __init__(self, sdk: ModuleType, job: dict[str, Any]) -> None:
        self._sdk = sdk
        self._job = job
        self._threads: list[threading.Thread] = []
        self.post = _seldom(self._post)

    def _post(self, progress: Report) -> None:
        before = set(threading.enumerate())
        self._sdk.serverless.progress_update(self._job, progress)
        made = (thread for thread in threading.enumerate() if thread not in before)
        self._threads += [thread for thread in made if "_thread_target" in thread.name]

    def wait(self) -> None:
        until = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def _seldom(report: Callable[[Report], None]) -> Callable[[Report], None]:
    """The first one, and then not more than one in two seconds."""
    last = -_PROGRESS_SECONDS

    def sometimes(progress: Report) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PROGRESS_SECONDS:
            last = now
            report(progress)

    return sometimes
