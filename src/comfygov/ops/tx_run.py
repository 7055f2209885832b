"""`gov tx run`: plan, lock, candidate, boot, gates. Production is only read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.tx import Logs, Override, Transaction
from comfygov.ops import planning
from comfygov.ops.context import Context, changing, discard_work
from comfygov.ops.tx_trial import Outcome, Trial, execute
from comfygov.ports import clock, faults, identity
from comfygov.ports.progress import Stages

if TYPE_CHECKING:
    from comfygov.ops.change import Change
    from comfygov.ops.planning import TxRequest
    from comfygov.truth.snapshots import State

TRIED = Outcome("completed", "failed")
RESOLVED = Outcome("resolved", "needs_resolution")


def run(context: Context, request: TxRequest) -> Transaction:
    """Try a change; the record that comes back is `completed`, `failed` or `needs_resolution`."""
    head = context.snapshots.require_head()
    base = context.snapshots.read(head.snapshot)
    if not context.generations.exists(base.generation):
        raise GovError(Code.ENVIRONMENT_DAMAGED, "production's environment is not there to compare with", "gov sync")
    stages = Stages(context.progress)
    with stages.stage("plan"):
        change = planning.plan(context, base, request)
    fresh = _record(context, "", head.snapshot, base, change)
    fresh = msgspec.structs.replace(fresh, timeout_seconds=request.timeout_seconds)
    known = [meta.txid or "" for meta in context.snapshots.metas()]
    tx = context.transactions.create(fresh, lambda txid: _logs(context, txid), known)
    faults.point("trial.opened")
    return execute(Trial(context, stages, base, change, tx, request.timeout_seconds, TRIED))


def rerun(
    context: Context,
    tx: Transaction,
    *,
    pins: tuple[str, ...] | None = None,
    overrides: tuple[Override, ...] | None = None,
    timeout_seconds: float | None = None,
) -> Transaction:
    """Run the trial of `tx` again, under its name, on what production is now; with other pins, to resolve it."""
    head = context.snapshots.require_head()
    base = context.snapshots.read(head.snapshot)
    stages = Stages(context.progress)
    resolving = pins is not None or overrides is not None
    with stages.stage("plan"):
        change = planning.plan_again(context, base, tx, pins, overrides)
    timeout = timeout_seconds or tx.timeout_seconds
    with changing(context):
        if context.transactions.load(tx.txid).status != tx.status:
            raise GovError(Code.BUSY, f"another command took {tx.txid}", f"gov tx inspect {tx.txid}")
        again = _record(context, tx.txid, head.snapshot, base, change)
        earlier = None if resolving else msgspec.structs.replace(tx, candidate_env=None)
        fresh = msgspec.structs.replace(
            again, timeout_seconds=timeout, conflict_report=tx.conflict_report, earlier=earlier
        )
        context.transactions.save(fresh)
        discard_work(context, tx.txid)  # not before: no closed record names a candidate that is gone
    outcome = RESOLVED if resolving or tx.status == "resolved" else TRIED
    try:
        return execute(Trial(context, stages, base, change, fresh, timeout, outcome))
    except BaseException:
        if resolving:
            _take_back(context, tx)
        raise


def _take_back(context: Context, tx: Transaction) -> None:
    """A resolve that was stopped has shown nothing: its pins are not kept, the conflict is open as before."""
    kept = msgspec.structs.replace(tx, status="needs_resolution", candidate_env=None, promotion_plan=None, gates=())
    context.transactions.save(kept)


def _record(context: Context, txid: str, base_id: str, base: State, change: Change) -> Transaction:
    moves = tuple(pack.move() for pack in change.packs)
    return Transaction(
        txid=txid,
        node_id=change.label,
        kind=change.kind,
        status="running",
        started_at=clock.now(),
        base_snapshot=base_id,
        source_commit=moves[0].after if moves else "",
        source_ref=moves[0].ref if moves else None,
        pre_freeze=context.generations.seal_of(base.generation).packages,
        declared=change.declared_lines(),
        rejected=change.rejected(),
        logs=_logs(context, txid),
        owner_pid=os.getpid(),
        owner_started=identity.started_at(os.getpid()) or 0.0,
        nodes=moves,
        comfyui=change.comfyui.move() if change.comfyui else None,
        dependencies=change.dependencies,
        dropped=change.dropped,
        upgrades=change.upgrades,
        resolution_pins=change.pins,
        overrides=change.overrides,
    )


def _logs(context: Context, txid: str) -> Logs:
    start = context.home.relative(context.home.logs / txid)
    return Logs(f"{start}.stdout.log", f"{start}.stderr.log", events=f"{start}.events.jsonl")
