"""`gov bisect …`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, offer, open_context, show, timeout_option
from comfygov.errors import Code, GovError


@click.group()
@common
def bisect() -> None:
    """Find the change that broke something, on private copies of past states."""


@bisect.command()
@click.argument("bad", shell_complete=offer("snapshots"))
@click.argument("good", shell_complete=offer("snapshots"))
@click.argument("check", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CHECK...")
@timeout_option("Seconds that ComfyUI has to become ready, and each check to end.")
@common
def start(options: Options, bad: str, good: str, timeout: float | None, check: tuple[str, ...]) -> int:
    """Find the change between the snapshots GOOD and BAD by halving. Production is only read.

    CHECK is a command: it runs in the sandbox of a trial, in a private ComfyUI tree of each state, with that state's
    Python first on PATH. Exit code 0 is good, 125 cannot be judged, everything else is bad. Or CHECK is one file
    WORKFLOW.json (API format): ComfyUI of each state is booted, and runs it.
    """
    from comfygov.cli.render.search_views import bisect_lines
    from comfygov.ops.bisect import BisectRequest
    from comfygov.ops.bisect import start as search

    result = search(open_context(options), BisectRequest(bad, good, check, timeout))
    error = None
    if len(result.changes) > 1:
        message = f"{len(result.changes)} changes are suspects: what lies between them could not be judged"
        error = GovError(Code.TRIAL_FAILED, message, "a check that can judge it (exit code 125 means that it cannot)")
    show(options, result, bisect_lines(result), findings=result.changes, error=error)
    return error.exit_code if error else 0
