"""`gov status` and `gov sync`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, open_context, show


@click.command()
@common
def status(options: Options) -> None:
    """What production is, whether it is healthy, what waits. Only reads."""
    from comfygov.cli.render.views import status_lines
    from comfygov.ops.status import status as read_status

    result = read_status(open_context(options))
    show(options, result, status_lines(result), findings=result.drift)


@click.command()
@common
def sync(options: Options) -> None:
    """Repair production from head: code, environment, links. Damaged environments are rebuilt."""
    from comfygov.cli.render.views import sync_lines
    from comfygov.ops.sync import sync as repair

    result = repair(open_context(options))
    show(options, result, sync_lines(result), findings=result.repaired)
