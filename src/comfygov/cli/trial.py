"""What `gov tx run` and `gov resolve` show of a trial that has just ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.entry import Options, show
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from comfygov.model.tx import Transaction
    from comfygov.ops.context import Context


def show_trial(options: Options, context: Context, done: Transaction) -> int:
    """Show a transaction that was just tried; the exit code."""
    from comfygov.cli.render.tx_views import detail_lines
    from comfygov.ops.tx_view import inspect as read_tx

    detail = read_tx(context, done.txid)
    error = None
    if done.status not in ("completed", "resolved"):
        code = Code.NO_SOLUTION if done.status == "needs_resolution" and not done.gates else Code.TRIAL_FAILED
        hint = f"gov resolve {done.txid} --suggest" if code is Code.NO_SOLUTION else f"gov tx inspect {done.txid}"
        error = GovError(code, done.error, hint)
    show(options, detail, detail_lines(detail), findings=detail.blockers, error=error)
    return error.exit_code if error else 0
