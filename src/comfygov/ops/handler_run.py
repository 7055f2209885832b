"""`gov handler run`: one job on this machine, from start to end."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.delivery import job as jobs
from comfygov.delivery.failure import JobFailed
from comfygov.delivery.inputs import is_url
from comfygov.errors import Code, GovError
from comfygov.model.delivery import JobError, JobResult
from comfygov.ops.handler_worker import WorkerRequest, read_workflow, worker
from comfygov.ports import fs
from comfygov.ports.progress import Stages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from comfygov.model.handler import Settings
    from comfygov.ports.progress import Progress

_CODES = {"timeout": Code.TIMEOUT, "not_ready": Code.NOT_READY, "cancelled": Code.INTERRUPTED}
_NETWORK = frozenset({"input_failed", "output_failed"})


class RunRequest(msgspec.Struct, frozen=True):
    """`inputs` are files, or addresses, each also as `NAME=…` where the workflow names it otherwise."""

    worker: WorkerRequest
    workflow: str
    inputs: tuple[str, ...] = ()
    out_file: str | None = None


class Ran(msgspec.Struct, frozen=True):
    """One of `result` and `error` is set, as a worker would answer."""

    result: JobResult | None
    error: JobError | None
    boot_seconds: float


def run(request: RunRequest, settings: Settings, command: str, progress: Progress, say: Callable[[str], None]) -> Ran:
    """Raises GovError when there is no ComfyUI to run it on; a job that failed is a result."""
    raw: dict[str, Any] = {"workflow": read_workflow(Path(request.workflow))}
    raw["files"] = _files(request.inputs)
    with worker(request.worker, settings, command, progress, say) as handler:
        with Stages(progress).stage("start of ComfyUI"):
            comfy = handler.supervisor.first()
        deadline = handler.deadline(raw)
        try:
            result = handler.run(jobs.new_id(), raw, deadline, lambda report: progress.update(progress_words(report)))
        except JobFailed as failure:
            return Ran(None, failure.error, comfy.health.boot_seconds)
        except KeyboardInterrupt:
            deadline.cancel()
            raise
    if request.out_file:
        path = Path(request.out_file).expanduser()
        with fs.explained(path):
            fs.write_atomic(path, msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return Ran(result, None, comfy.health.boot_seconds)


def _files(inputs: Sequence[str]) -> list[dict[str, str]]:
    found = []
    for text in inputs:
        name, separator, source = text.partition("=")
        if not separator or is_url(text) or Path(text).expanduser().is_file():
            source = text
            name = Path(text.split("?")[0] if is_url(text) else text).name
        found.append({"name": name, "file": source if is_url(source) else _content(Path(source).expanduser())})
    return found


def _content(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode() or "data:,"
    except OSError as error:
        raise GovError(Code.NOT_FOUND, f"the input {path} cannot be read: {error.strerror}", "check --input") from error


def progress_words(report: dict[str, Any]) -> str:
    words = f"node {report.get('node_id')} ({report.get('nodes_done')} of {report.get('nodes')} done)"
    return f"{words}: {report['value']:g} of {report['max']:g}" if "value" in report else words


def as_gov_error(error: JobError) -> GovError:
    """A failed job as the error of a command."""
    from comfygov.delivery.failure import node_words

    code = Code.NETWORK if error.code in _NETWORK else _CODES.get(error.code, Code.JOB_FAILED)
    lines = (*(node_words(node) for node in error.nodes), *error.details)
    return GovError(code, error.message, error.hint, lines)
