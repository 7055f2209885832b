"""`gov handler …`."""

from __future__ import annotations

from typing import Any

import click

from comfygov.cli.entry import Options, command_line, common, progress, show
from comfygov.cli.handler_options import (
    job_seconds_option,
    settings,
    start_seconds_option,
    version_options,
    work_dir_option,
    worker_options,
    worker_request,
)
from comfygov.cli.handler_serve import serve
from comfygov.cli.render.output import say_log
from comfygov.errors import Code, GovError


@click.group()
@common
def handler() -> None:
    """A version that answers jobs: workflows in, artifacts out."""


@handler.command()
@click.option("--workflow", required=True, metavar="W", help="A workflow in API format.")
@click.option("--out-file", metavar="P", help="Write the result there, not to standard output.")
@click.option("--input", "inputs", multiple=True, metavar="[NAME=]FILE|URL", help="An input file (repeatable).")
@job_seconds_option(3600.0)
@worker_options
@common
def run(options: Options, workflow: str, out_file: str | None, inputs: tuple[str, ...], **given: Any) -> int:  # noqa: ANN401
    """Do one job here: start ComfyUI from a version, run the workflow, give the result, stop ComfyUI."""
    from comfygov.cli.render.handler_views import result_lines
    from comfygov.ops import handler_run

    request = handler_run.RunRequest(worker_request(options.home, given), workflow, inputs, out_file)
    log = say_log if options.verbose else (lambda _line: None)
    result = handler_run.run(request, settings(given, None), command_line(), progress(options), log)
    error = handler_run.as_gov_error(result.error) if result.error else None
    if error is not None and not options.json:
        raise error
    show(options, result, result_lines(result, out_file), error=error)
    return error.exit_code if error else 0


@handler.command()
@start_seconds_option
@work_dir_option
@version_options
@common
def check(options: Options, start_timeout: float, **given: Any) -> int:  # noqa: ANN401
    """Start ComfyUI once from a version, and say whether every pack and node class is there."""
    from comfygov.cli.render.handler_views import checked_lines
    from comfygov.ops import handler_check

    log = say_log if options.verbose else (lambda _line: None)
    request = worker_request(options.home, given)
    result = handler_check.check(request, start_timeout, command_line(), progress(options), log)
    error = None
    if not result.is_good:
        error = GovError(Code.DRIFT, "not all of the version is there", "gov version verify --deep; the list is above")
    show(options, result, checked_lines(result), error=error)
    return error.exit_code if error else 0


@handler.command()
@click.option("--http", metavar="HOST:PORT", envvar="COMFYGOV_HTTP", help="Where it listens (default: look here).")
@click.option("--ready", is_flag=True, help="It must be ready too, not only alive.")
@common
def health(options: Options, http: str | None, ready: bool) -> int:
    """Whether a handler is alive, for health checks: exit 0 or 1, without curl."""
    from comfygov.ops import handler_status

    result = handler_status.health(http)
    good = result.ready if ready else result.alive
    error = None if good else GovError(Code.NOT_READY, f"the handler is not well: {result.reason}", "its log says why")
    if error is not None and not options.json:
        raise error
    show(options, result, [result.reason], error=error)
    return error.exit_code if error else 0


handler.add_command(serve)
