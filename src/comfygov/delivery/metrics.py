"""What a worker did, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.delivery.table import BUCKETS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.delivery.comfyui import Supervisor
    from comfygov.delivery.table import Table

_PREFIX = "comfygov_handler"


def text(table: Table, supervisor: Supervisor) -> str:
    return "\n".join(_lines(table, supervisor)) + "\n"


def _lines(table: Table, supervisor: Supervisor) -> Iterator[str]:
    waiting, running = table.counts
    runtime = supervisor.runtime
    yield from _head("info", "gauge", "The version that this worker serves.")
    yield f'{_PREFIX}_info{{version="{_quoted(runtime.version)}",digest="{_quoted(runtime.digest)}"}} 1'
    yield from _head("jobs_total", "counter", "Jobs that have ended, by how.")
    for status, count in table.ended.items():
        yield f'{_PREFIX}_jobs_total{{status="{status.lower()}"}} {count}'
    yield from _one("jobs_waiting", "gauge", "Jobs that wait.", waiting)
    yield from _one("jobs_running", "gauge", "Jobs that run.", running)
    yield from _one("ready", "gauge", "1 when ComfyUI is ready.", int(supervisor.state == "ready"))
    yield from _one("comfyui_starts_total", "counter", "Starts of ComfyUI that became ready.", supervisor.starts)
    yield from _one("comfyui_restarts_total", "counter", "Those after the first.", supervisor.restarts)
    yield from _head("job_seconds", "histogram", "From taking a job to its end.")
    total = 0
    for bound, count in zip(BUCKETS_SECONDS, table.seconds, strict=False):
        total += count
        yield f'{_PREFIX}_job_seconds_bucket{{le="{bound:g}"}} {total}'
    total += table.seconds[-1]
    yield f'{_PREFIX}_job_seconds_bucket{{le="+Inf"}} {total}'
    yield f"{_PREFIX}_job_seconds_sum {table.seconds_in_all:.3f}"
    yield f"{_PREFIX}_job_seconds_count {total}"


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}_{name} {meaning}", f"# TYPE {_PREFIX}_{name} {kind}"


def _one(name: str, kind: str, meaning: str, value: int) -> Iterator[str]:
    yield from _head(name, kind, meaning)
    yield f"{_PREFIX}_{name} {value}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
