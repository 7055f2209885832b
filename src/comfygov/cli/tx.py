"""`gov tx …`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, offer, open_context, reason_option, show, timeout_option
from comfygov.errors import Code, GovError


@click.group()
@common
def tx() -> None:
    """Transactions: a change, its trial and its way to production."""


@tx.command()
@click.argument("nodes", nargs=-1, metavar="[NODE_ID[@REF]]...", shell_complete=offer("packs"))
@click.option("--ref", help="The branch, tag or commit of the one pack that is named.")
@click.option("--comfyui", metavar="REF", help="ComfyUI at another branch, tag or commit.")
@click.option("--dep", "dependencies", multiple=True, metavar="SPEC", help="A package that you want (repeated).")
@click.option("--drop", "dropped", multiple=True, metavar="PACKAGE", help="No longer want or pin a package (repeated).")
@click.option("--upgrade", "upgrades", multiple=True, metavar="PACKAGE", help="The newest that fits (repeated).")
@click.option("--from", "record", metavar="FILE", help="What a snapshot of ComfyUI-Manager or Comfy Desktop says.")
@timeout_option("Seconds that ComfyUI has to become ready.")
@common
def run(
    options: Options,
    nodes: tuple[str, ...],
    ref: str | None,
    comfyui: str | None,
    dependencies: tuple[str, ...],
    dropped: tuple[str, ...],
    upgrades: tuple[str, ...],
    record: str | None,
    timeout: float | None,
) -> int:
    """Try a change on a full copy with the real ComfyUI: packs, ComfyUI itself, packages, or several at once.

    A pack that is in production already goes to the newest commit of what it follows, unless a ref is named.
    Production is only read.
    """
    from comfygov.cli.trial import from_record, show_trial
    from comfygov.ops.planning import TxRequest
    from comfygov.ops.tx_run import run as run_trial

    context = open_context(options)
    request = TxRequest(_with_refs(nodes, ref), comfyui, dependencies, dropped, upgrades, timeout)
    request, said = from_record(context, record, request) if record else (request, ())
    return show_trial(options, context, run_trial(context, request), said)


def _with_refs(nodes: tuple[str, ...], ref: str | None) -> tuple[tuple[str, str | None], ...]:
    if ref is not None and len(nodes) != 1:
        raise GovError(Code.USAGE, "--ref is for one pack", "name refs as NODE_ID@REF")
    parts = [node.partition("@") for node in nodes]
    return tuple((name, ref or own or None) for name, _, own in parts)


@tx.command(name="list")
@common
def list_(options: Options) -> None:
    """All transactions, newest last."""
    from comfygov.cli.render.tx_views import list_lines
    from comfygov.ops.tx_view import list_transactions

    result = list_transactions(open_context(options))
    show(options, result, list_lines(result))


@tx.command()
@click.argument("txid", shell_complete=offer("transactions"))
@common
def inspect(options: Options, txid: str) -> None:
    """What the trial showed, and whether it may be promoted."""
    from comfygov.cli.render.tx_views import detail_lines
    from comfygov.ops.tx_view import inspect as read_tx

    result = read_tx(open_context(options), txid)
    show(options, result, detail_lines(result), findings=result.blockers)


@tx.command()
@click.argument("txid", shell_complete=offer("transactions"))
@click.option("--approve-core", is_flag=True, help="Approve the changes of core packages that are shown.")
@reason_option
@click.option("--allow-failed-run", is_flag=True, help="Promote although the trial failed.")
@click.option("--restart", is_flag=True, help="Stop a running ComfyUI for the change and start it again.")
@common
def promote(
    options: Options, txid: str, approve_core: bool, reason: str, allow_failed_run: bool, restart: bool
) -> None:
    """Make what the trial saw production, in one atomic step."""
    from comfygov.cli.render.tx_views import promoted_lines
    from comfygov.ops.tx_promote import PromoteRequest
    from comfygov.ops.tx_promote import promote as commit

    request = PromoteRequest(txid, approve_core, reason, allow_failed_run, restart)
    result = commit(open_context(options), request)
    show(options, result, promoted_lines(result))


@tx.command()
@click.argument("txid", shell_complete=offer("transactions"))
@common
def abort(options: Options, txid: str) -> None:
    """End a transaction; its candidate environment is removed, production is untouched."""
    from comfygov.ops.tx_view import abort as end

    result = end(open_context(options), txid)
    show(options, result, [f"{result.txid} is aborted; production is untouched"])
