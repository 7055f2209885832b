"""`gov run`, `gov stop` and `gov logs`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, open_context, show
from comfygov.errors import Code, GovError


@click.command()
@click.option("--sync", "sync_first", is_flag=True, help="Repair production first.")
@click.option("--detach", is_flag=True, help="Return when ComfyUI answers; it goes on in the background.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Seconds that a detached ComfyUI has to become ready.",
)
@click.argument("comfyui_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMFYUI ARGS]")
@common
def run(options: Options, sync_first: bool, detach: bool, timeout: float | None, comfyui_args: tuple[str, ...]) -> int:
    """Start ComfyUI with exactly the enabled packs, from the sealed environment."""
    from comfygov.cli.render.views import started_lines
    from comfygov.ops.run import RunRequest
    from comfygov.ops.run import run as start

    request = RunRequest(comfyui_args, sync_first, detach, timeout, quiet_stdout=options.json)
    result = start(open_context(options), request)
    error = None
    if result.exit_code:
        error = GovError(Code.TOOL_FAILED, f"ComfyUI ended with exit code {result.exit_code}", "its log says why")
    show(options, result, started_lines(result), error=error)
    return error.exit_code if error else 0


@click.command()
@common
def stop(options: Options) -> None:
    """SIGTERM, after 30 s SIGKILL, for ComfyUI and everything that it started."""
    from comfygov.ops.run import stop as end

    result = end(open_context(options))
    show(options, result, [f"ComfyUI (pid {result.pid}) is stopped after {result.seconds:.1f} s"])


@click.command()
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many lines (0: all)."
)
@click.argument("txid", required=False)
@common
def logs(options: Options, lines: int, txid: str | None) -> None:
    """The end of ComfyUI's log, or of the trial TXID."""
    from comfygov.ops.run import logs as read_logs

    result = read_logs(open_context(options), lines, txid)
    show(options, result, result.lines)
