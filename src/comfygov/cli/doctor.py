"""`gov doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from comfygov.cli.entry import Options, common, open_context, show
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from comfygov.ops.context import Context


@click.command()
@click.option("--offline", is_flag=True, help="Ask no server.")
@common
def doctor(options: Options, *, offline: bool) -> int:
    """What this machine can do: sandbox, git, uv, GPU and torch, disk, file system, engines for images, and whether the
    sources of a home answer; and how to get the rest. Works without a home too."""
    from comfygov.cli.render.doctor_views import doctor_lines
    from comfygov.ops.doctor import examine

    result = examine(_context(options), offline=offline)
    failed = [check for check in result.checks if check.verdict == "fail"]
    error = GovError(Code.TOOL_MISSING, failed[0].words, "; ".join(failed[0].advice)) if failed else None
    show(options, result, doctor_lines(result), findings=failed, error=error)
    return error.exit_code if error else 0


def _context(options: Options) -> Context | None:
    """The home, unless none was named and none is near."""
    try:
        return open_context(options)
    except GovError as error:
        if error.code is not Code.NOT_A_HOME or options.home:
            raise
        return None
