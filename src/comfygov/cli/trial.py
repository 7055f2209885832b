"""What `gov tx run` and `gov resolve` show of a trial that has just ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.entry import Options, show
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from comfygov.model.tx import Transaction
    from comfygov.ops.context import Context
    from comfygov.ops.planning import TxRequest
    from comfygov.ops.records import RecordFinding


def from_record(context: Context, file: str, request: TxRequest) -> tuple[TxRequest, tuple[RecordFinding, ...]]:
    """The request with what another tool's record says, and what of the record is not in it."""
    from comfygov.ops.importing import plan

    found = plan(context, file, request)
    for name in found.added:
        context.progress.note(f"{name} is registered (gov node remove {name} takes it back)")
    return found.request, found.findings


def show_trial(options: Options, context: Context, done: Transaction, said: tuple[RecordFinding, ...] = ()) -> int:
    """Show a transaction that was just tried, after what is `said` of its plan; the exit code."""
    from comfygov.cli.render.tx_views import detail_lines
    from comfygov.ops.tx_view import inspect as read_tx

    detail = read_tx(context, done.txid)
    error = None
    if done.status not in ("completed", "resolved"):
        code = Code.NO_SOLUTION if done.status == "needs_resolution" and not done.gates else Code.TRIAL_FAILED
        hint = f"gov resolve {done.txid} --suggest" if code is Code.NO_SOLUTION else f"gov tx inspect {done.txid}"
        error = GovError(code, done.error, hint)
    lines = [f"record  {one.kind} {one.subject} {one.problem}" + (f" ({one.hint})" if one.hint else "") for one in said]
    show(options, detail, [*lines, *detail_lines(detail)], findings=(*said, *detail.blockers), error=error)
    return error.exit_code if error else 0
