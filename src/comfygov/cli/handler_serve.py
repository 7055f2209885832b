"""`gov handler serve`."""

from __future__ import annotations

from typing import Any

import click

from comfygov.cli.entry import Options, command_line, common, progress, show
from comfygov.cli.handler_options import job_seconds_option, settings, worker_options, worker_request
from comfygov.cli.render.output import say_log

_MEGABYTE = 1_000_000
_HTTP_MEGABYTES = 100.0


@click.command()
@click.option("--http", metavar="HOST:PORT", envvar="COMFYGOV_HTTP", help="Serve plain HTTP, not RunPod.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    envvar="COMFYGOV_CONCURRENCY",
    help="Jobs at once; in ComfyUI they take turns.",
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    envvar="COMFYGOV_QUEUE",
    help="Jobs that may wait (HTTP).",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=25.0,
    show_default=True,
    metavar="S",
    envvar="COMFYGOV_GRACE",
    help="Seconds that jobs may go on after SIGTERM (HTTP).",
)
@click.option(
    "--max-body",
    type=click.FloatRange(min=0, min_open=True),
    default=256.0,
    show_default=True,
    metavar="MB",
    envvar="COMFYGOV_MAX_BODY",
    help="Largest request (HTTP).",
)
@click.option(
    "--inline-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB",
    envvar="COMFYGOV_INLINE_LIMIT",
    help="Largest result as base64 (default: RunPod 10, HTTP 100).",
)
@click.option("--stream", is_flag=True, envvar="COMFYGOV_STREAM", help="Stream progress and result (RunPod).")
@click.option("--refresh-worker", is_flag=True, envvar="REFRESH_WORKER", help="A fresh worker for each job (RunPod).")
@click.option(
    "--interrupt-timeout",
    type=click.FloatRange(min=0),
    default=15.0,
    show_default=True,
    metavar="S",
    envvar="COMFYGOV_INTERRUPT_TIMEOUT",
    help="Until a ComfyUI that goes on after an interrupt is ended.",
)
@click.option(
    "--warm-up", default="", metavar="W", envvar="COMFYGOV_WARM_UP", help="A workflow that is run before the first job."
)
@job_seconds_option(3600.0)
@worker_options
@common
def serve(options: Options, inline_limit: float | None, refresh_worker: bool, warm_up: str, **given: Any) -> None:  # noqa: ANN401
    """Answer jobs: as RunPod's serverless worker, or with --http for any other scheduler. COMFYGOV_TOKEN: who may."""
    import os

    from comfygov.cli.render.handler_views import served_lines
    from comfygov.model.handler import RUNPOD_RESULT_BYTES
    from comfygov.ops import handler_serve

    http = given["http"]
    most_bytes = round(_HTTP_MEGABYTES * _MEGABYTE) if http else RUNPOD_RESULT_BYTES
    request = handler_serve.ServeRequest(
        worker_request(options.home, given, warm_up),
        http=http,
        concurrency=given["concurrency"],
        queue=given["queue"],
        grace_seconds=given["grace"],
        max_body_bytes=round(given["max_body"] * _MEGABYTE),
        token=os.environ.get("COMFYGOV_TOKEN", ""),
        stream=given["stream"],
    )
    chosen = settings(
        given,
        round(inline_limit * _MEGABYTE) if inline_limit else most_bytes,
        refresh_worker=refresh_worker,
        interrupt_seconds=given["interrupt_timeout"],
    )
    log = (lambda _line: None) if options.quiet else say_log
    result = handler_serve.serve(request, chosen, command_line(), progress(options), log)
    show(options, result, served_lines(result))
