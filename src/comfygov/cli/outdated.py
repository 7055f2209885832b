"""`gov outdated`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, open_context, show
from comfygov.errors import Code, GovError


@click.command()
@common
def outdated(options: Options) -> int:
    """What could be updated: packs, ComfyUI, packages; each with the command that tries it. Only reads.

    Exit code 5 says that something could not be asked; what could is shown.
    """
    from comfygov.cli.render.search_views import outdated_lines
    from comfygov.ops.outdated import find

    result = find(open_context(options))
    error = None
    if result.unanswered:
        names = ", ".join(problem.subject for problem in result.unanswered)
        error = GovError(Code.NETWORK, f"not all could be asked: {names}", result.unanswered[0].hint)
    show(options, result, outdated_lines(result), findings=result.unanswered, error=error)
    return error.exit_code if error else 0
