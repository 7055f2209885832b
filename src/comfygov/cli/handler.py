"""`gov handler …`."""

from __future__ import annotations

from typing import Any

import click

from comfygov.cli.entry import Options, command_line, common, progress, show
from comfygov.cli.handler_options import job_seconds_option, settings, worker_options, worker_request
from comfygov.cli.render.output import say


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
    log = say if options.verbose else (lambda _line: None)
    result = handler_run.run(request, settings(given, None), command_line(), progress(options), log)
    error = handler_run.as_gov_error(result.error) if result.error else None
    if error is not None and not options.json:
        raise error
    show(options, result, result_lines(result, out_file), error=error)
    return error.exit_code if error else 0
