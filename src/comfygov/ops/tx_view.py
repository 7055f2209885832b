"""`gov tx list|inspect|abort`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.tx import ConflictReport, Transaction, TxSummary
from comfygov.ops.context import changing, discard_work
from comfygov.ports import clock, identity
from comfygov.truth import store

if TYPE_CHECKING:
    from comfygov.ops.context import Context


class TxList(msgspec.Struct, frozen=True):
    transactions: tuple[TxSummary, ...]


class TxDetail(msgspec.Struct, frozen=True):
    """`blockers` is empty when the transaction may be promoted as it is."""

    transaction: Transaction
    blockers: tuple[str, ...]
    conflict: ConflictReport | None = None


def list_transactions(context: Context) -> TxList:
    return TxList(tuple(context.transactions.summaries()))


def inspect(context: Context, txid: str) -> TxDetail:
    tx = context.transactions.load(txid)
    conflict = store.load(context.home.root / tx.conflict_report, ConflictReport) if tx.conflict_report else None
    return TxDetail(tx, tuple(blockers(tx)), conflict)


def blockers(tx: Transaction) -> list[str]:
    """What stands between the transaction and a promote."""
    if tx.status in ("promoted", "aborted"):
        return [f"it is {tx.status}"]
    if tx.status == "running":
        alive = identity.is_same_process(tx.owner_pid, tx.owner_started)
        return ["its trial is under way" if alive else "its process ended before the trial did"]
    if tx.status == "needs_resolution" and not tx.gates:
        return [tx.error]
    found = [f"{gate.name}: {gate.reason}" for gate in tx.gates if gate.verdict == "fail"]
    if tx.status == "failed" and not found:
        found.append(tx.error)
    if tx.status == "promote_failed":
        found.append(f"the last promote failed: {tx.promotion.error}")
    if not tx.core_impact.empty():
        found.append("core packages change: needs --approve-core --reason")
    return found


def abort(context: Context, txid: str) -> Transaction:
    """End a transaction that was not promoted; its candidate is gone, its record and logs stay."""
    with changing(context):
        tx = context.transactions.load(txid)
        if tx.status == "aborted":
            return tx
        if tx.status == "promoted":
            raise GovError(
                Code.WRONG_STATE,
                f"{tx.txid} is promoted already",
                f"gov rollback {tx.promotion.snapshot_pre} goes back",
            )
        if tx.status == "running" and identity.is_same_process(tx.owner_pid, tx.owner_started):
            raise GovError(
                Code.BUSY,
                f"the trial of {tx.txid} runs in process {tx.owner_pid}",
                "end that command (Ctrl-C) first",
            )
        ended = tx.ended_at or clock.now()
        tx = context.transactions.save(
            msgspec.structs.replace(tx, status="aborted", ended_at=ended, candidate_env=None)
        )
        discard_work(context, tx.txid)
        return tx
