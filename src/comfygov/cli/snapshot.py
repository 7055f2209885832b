"""`gov snapshot …` and `gov rollback`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, offer, open_context, reason_option, show


@click.group()
@common
def snapshot() -> None:
    """Immutable copies of the state; head is one of them."""


@snapshot.command(name="list")
@common
def list_(options: Options) -> None:
    """All snapshots, newest last; `*` marks head."""
    from comfygov.cli.render.views import snapshot_list_lines
    from comfygov.ops.history import list_snapshots

    result = list_snapshots(open_context(options))
    show(options, result, snapshot_list_lines(result))


@snapshot.command()
@click.argument("snapshot_id", shell_complete=offer("snapshots"))
@common
def inspect(options: Options, snapshot_id: str) -> None:
    """What a snapshot holds. SNAPSHOT_ID may be its number."""
    from comfygov.cli.render.views import snapshot_detail_lines
    from comfygov.ops.history import inspect as read_snapshot

    result = read_snapshot(open_context(options), snapshot_id)
    show(options, result, snapshot_detail_lines(result))


@snapshot.command()
@reason_option
@common
def create(options: Options, reason: str) -> None:
    """Keep production as it is now under a name of its own."""
    from comfygov.ops.history import create as make

    result = make(open_context(options), reason)
    show(options, result, [f"snapshot {result.id}"])


@snapshot.command()
@click.argument("before", shell_complete=offer("snapshots"))
@click.argument("after", shell_complete=offer("snapshots"))
@common
def diff(options: Options, before: str, after: str) -> None:
    """What lies between two snapshots."""
    from comfygov.cli.render.views import state_difference_lines
    from comfygov.ops.history import diff as compare

    result = compare(open_context(options), before, after)
    show(options, result, state_difference_lines(result))


@click.command()
@click.argument("snapshot_id", shell_complete=offer("snapshots"))
@reason_option
@click.option("--restart", is_flag=True, help="Stop a running ComfyUI for the change and start it again.")
@common
def rollback(options: Options, snapshot_id: str, reason: str, restart: bool) -> None:
    """Make production what SNAPSHOT_ID says: code, packages, registry. Works forward too."""
    from comfygov.cli.render.views import rollback_lines
    from comfygov.ops.history import rollback as go_back

    result = go_back(open_context(options), snapshot_id, restart=restart, reason=reason)
    show(options, result, rollback_lines(result))
