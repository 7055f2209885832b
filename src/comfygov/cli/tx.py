"""`gov tx …`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, open_context, reason_option, show
from comfygov.errors import Code, GovError


@click.group()
@common
def tx() -> None:
    """Transactions: a change, its trial and its way to production."""


@tx.command()
@click.argument("node_id")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Seconds that ComfyUI has to become ready.",
)
@click.option("--ref", help="Try another branch, tag or commit of the pack.")
@common
def run(options: Options, node_id: str, timeout: float | None, ref: str | None) -> int:
    """Try the pack NODE_ID on a full copy with the real ComfyUI. Production is only read."""
    from comfygov.cli.render.tx_views import detail_lines
    from comfygov.ops.tx_run import TxRequest
    from comfygov.ops.tx_run import run as run_trial
    from comfygov.ops.tx_view import inspect as read_tx

    context = open_context(options)
    done = run_trial(context, TxRequest(node_id, ref, timeout))
    detail = read_tx(context, done.txid)
    error = None
    if done.status != "completed":
        code = Code.NO_SOLUTION if done.status == "needs_resolution" else Code.TRIAL_FAILED
        error = GovError(code, done.error, f"gov tx inspect {done.txid}")
    show(options, detail, detail_lines(detail), findings=detail.blockers, error=error)
    return error.exit_code if error else 0


@tx.command(name="list")
@common
def list_(options: Options) -> None:
    """All transactions, newest last."""
    from comfygov.cli.render.tx_views import list_lines
    from comfygov.ops.tx_view import list_transactions

    result = list_transactions(open_context(options))
    show(options, result, list_lines(result))


@tx.command()
@click.argument("txid")
@common
def inspect(options: Options, txid: str) -> None:
    """What the trial showed, and whether it may be promoted."""
    from comfygov.cli.render.tx_views import detail_lines
    from comfygov.ops.tx_view import inspect as read_tx

    result = read_tx(open_context(options), txid)
    show(options, result, detail_lines(result), findings=result.blockers)


@tx.command()
@click.argument("txid")
@click.option("--approve-core", is_flag=True, help="Approve the core packages that are shown as moving.")
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
@click.argument("txid")
@common
def abort(options: Options, txid: str) -> None:
    """End a transaction; its candidate environment is removed, production is untouched."""
    from comfygov.ops.tx_view import abort as end

    result = end(open_context(options), txid)
    show(options, result, [f"{result.txid} is aborted; production is untouched"])
