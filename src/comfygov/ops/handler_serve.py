"""`gov handler serve`: jobs from RunPod, or over HTTP, until somebody ends it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from comfygov.delivery import sinks
from comfygov.errors import Code, GovError
from comfygov.ops import handler_status
from comfygov.ops.handler_worker import WorkerRequest, worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.delivery.handler import Handler
    from comfygov.model.handler import Settings
    from comfygov.ports.progress import Progress

_LOOK_SECONDS = 0.2
_HOLD_BYTES = 1_000_000_000
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServeRequest(msgspec.Struct, frozen=True):
    """`http` HOST:PORT, or None for RunPod. `grace_seconds`: how long jobs may go on after SIGTERM. `token` "" lets
    everybody in."""

    worker: WorkerRequest
    http: str | None = None
    concurrency: int = 1
    queue: int = 1000
    grace_seconds: float = 25.0
    max_body_bytes: int = 256_000_000
    token: str = ""
    stream: bool = False


class Served(msgspec.Struct, frozen=True):
    """What a worker did in its life."""

    version: str
    digest: str
    seconds: float
    jobs: dict[str, int]
    comfyui_starts: int


def serve(
    request: ServeRequest, settings: Settings, command: str, progress: Progress, say: Callable[[str], None]
) -> Served:
    """Raises GovError when ComfyUI does not start, or not again."""
    started = time.monotonic()
    if "{job_id}" not in settings.storage.object_name:
        message = f"--object-name: with `{settings.storage.object_name}` a job would overwrite results of others"
        raise GovError(Code.USAGE, message, "--object-name '{job_id}/{filename}'")
    with worker(request.worker, settings, command, progress, say) as handler:
        supervisor = handler.supervisor
        supervisor.changed = lambda: handler_status.write(supervisor, request.http or "")
        supervisor.changed()
        try:
            counts = _http(request, handler, progress) if request.http else _runpod(request, handler, progress)
        finally:
            handler_status.remove()
        runtime = supervisor.runtime
        seconds = round(time.monotonic() - started, 1)
        return Served(runtime.version, runtime.digest, seconds, counts, supervisor.starts)


def _runpod(request: ServeRequest, handler: Handler, progress: Progress) -> dict[str, int]:
    """The SDK is imported and the sink's library loaded while ComfyUI starts; jobs are taken when it is ready."""
    from comfygov.delivery import runpod_worker

    sdk = runpod_worker.load()
    check_sink(handler.settings)
    handler.supervisor.first()
    progress.note("ready: jobs are taken from RunPod")
    runpod_worker.serve(sdk, handler, concurrency=request.concurrency, stream=request.stream)
    if handler.supervisor.failure is not None:
        raise handler.supervisor.failure
    return {}


def check_sink(settings: Settings) -> None:
    """Raises GovError now, and not at the first job, when the default output cannot work."""
    mode = sinks.default_output(settings.storage)
    if mode != "base64":
        sinks.make(mode, settings.storage)


def _http(request: ServeRequest, handler: Handler, progress: Progress) -> dict[str, int]:
    from comfygov.delivery.http_server import Listening, Service
    from comfygov.delivery.table import Limits, Table

    host, port = handler_status.parse_address(request.http or "")
    if host not in _LOOPBACK and not request.token:
        progress.warn(f"whoever reaches {host}:{port} may run workflows here: set COMFYGOV_TOKEN")
    limits = Limits(request.concurrency, request.queue, max(_HOLD_BYTES, request.max_body_bytes))
    table = Table(handler.run, handler.deadline, limits)
    service = Service(table, handler.supervisor, request.token, request.max_body_bytes)
    listening = Listening(host, port, service)
    try:
        shown = f"[{host}]" if ":" in host else host
        progress.note(f"listening on http://{shown}:{listening.port}")
        check_sink(handler.settings)
        _until_ended(handler, progress)
    except (KeyboardInterrupt, GovError) as end:
        service.draining = True
        progress.note(f"ending: jobs that run have {request.grace_seconds:g} s")
        table.close("the worker is going away", request.grace_seconds)
        if isinstance(end, GovError):
            raise
    finally:
        listening.close()
    return {status.lower(): count for status, count in table.ended.items()}


def _until_ended(handler: Handler, progress: Progress) -> None:
    """Until a signal raises, or ComfyUI is given up."""
    supervisor = handler.supervisor
    comfy = supervisor.first()
    progress.note(
        f"ready after {comfy.health.boot_seconds:.1f} s (ComfyUI {comfy.health.comfyui_version}, {comfy.device})"
    )
    while supervisor.failure is None:
        time.sleep(_LOOK_SECONDS)
    raise GovError(
        Code.NOT_READY,
        f"ComfyUI does not start any more: {supervisor.failure.message}",
        supervisor.failure.hint,
        supervisor.failure.details,
    )
