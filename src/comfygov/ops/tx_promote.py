"""`gov tx promote`: what the trial saw becomes production, in one atomic step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.errors import Code, GovError
from comfygov.model.state import SnapshotMeta
from comfygov.model.tx import Promotion, Transaction
from comfygov.ops import boxing, change, committing, locking, smoke, trying, tx_run
from comfygov.ops.context import approved_lines, changing, discard_work, note_promotion, transaction
from comfygov.ports import clones, faults, fs, node_registry
from comfygov.ports.git import recorded_source
from comfygov.ports.progress import Stages
from comfygov.trial import gates
from comfygov.truth import audit
from comfygov.truth.snapshots import Origin

if TYPE_CHECKING:
    from comfygov.model.state import Baseline, Plugin
    from comfygov.model.tx import NodeMove
    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State


_REFUSALS = (Code.RUNNING, Code.LOCAL_EDITS, Code.NEEDS_APPROVAL, Code.BUSY, Code.NETWORK)


class PromoteRequest(msgspec.Struct, frozen=True):
    """`approve_core` approves exactly the core changes that the record shows."""

    txid: str
    approve_core: bool = False
    reason: str = ""
    allow_failed_run: bool = False
    restart: bool = False


class PromoteResult(msgspec.Struct, frozen=True):
    transaction: Transaction
    snapshot: SnapshotMeta
    stage_seconds: dict[str, float]
    retried_trial: bool = False


def promote(context: Context, request: PromoteRequest) -> PromoteResult:
    """Commit a transaction. On any failure production is what it was, and the record says why."""
    tx = transaction(context, request.txid)
    _refuse_wrong_state(tx, request)
    _refuse_unapproved(tx, request)
    shown = tx.core_impact
    stages = Stages(context.progress)
    retried = False
    if _base_moved(context, tx) or _is_gone(context, tx):
        tx, retried = _try_again(context, tx, request), True
    with changing(context):
        tx = context.transactions.load(tx.txid)
        _refuse_wrong_state(tx, request)
        if tx.core_impact != shown:
            _refuse_unapproved(tx, msgspec.structs.replace(request, approve_core=False))
        if _base_moved(context, tx):
            raise GovError(Code.BUSY, "production changed just now", f"gov tx promote {tx.txid}")
        try:
            return _promote(context, tx, request, stages, retried=retried)
        except BaseException as error:
            _record_failure(context, tx, error)
            raise


def _refuse_wrong_state(tx: Transaction, request: PromoteRequest) -> None:
    # One whose repetition was interrupted has its verdict and no candidate: promote repeats it.
    tried = tx.promotion_plan is not None and (tx.candidate_env is not None or bool(tx.gates))
    if tx.status not in ("completed", "resolved", "promote_failed", "failed") or not tried:
        hint = {
            "needs_resolution": f"gov resolve {tx.txid} --suggest",
            "promoted": f"gov rollback {tx.promotion.snapshot_pre} goes back",
        }.get(tx.status, change.command_of(tx))
        raise GovError(Code.WRONG_STATE, f"transaction {tx.txid} is {tx.status} and cannot be promoted", hint)
    failed = [gate.reason for gate in gates.blocking(tx.gates)]
    if (tx.status == "failed" or failed) and not request.allow_failed_run:
        raise GovError(
            Code.WRONG_STATE,
            f"the trial {tx.txid} failed: {tx.error or '; '.join(failed)}",
            f"gov tx inspect {tx.txid}, then gov tx abort {tx.txid} (or --allow-failed-run, at your own risk)",
        )


def _refuse_unapproved(tx: Transaction, request: PromoteRequest) -> None:
    if tx.core_impact.empty():
        return
    if request.approve_core and request.reason.strip():
        return
    raise GovError(
        Code.NEEDS_APPROVAL,
        f"{tx.txid} changes core packages, which needs your approval",
        f'gov tx promote {tx.txid} --approve-core --reason "…"',
        tuple(tx.core_impact.lines()),
    )


def _base_moved(context: Context, tx: Transaction) -> bool:
    """True when head is no longer what the trial started from in anything that the trial saw."""
    head = context.snapshots.require_head()
    plan = tx.promotion_plan
    if plan is None or head.snapshot == tx.base_snapshot:
        return False
    if tx.base_snapshot not in context.snapshots.ids():
        return True
    base, now = context.snapshots.read(tx.base_snapshot), context.snapshots.read(head.snapshot)
    same_lock = base.pyproject == now.pyproject and base.uv_lock == now.uv_lock
    return not same_lock or change.digest_of(base) != change.digest_of(now)


def _is_gone(context: Context, tx: Transaction) -> bool:
    return not (context.home.work / tx.txid / "uv.lock").is_file()


def _try_again(context: Context, tx: Transaction, request: PromoteRequest) -> Transaction:
    """Production moved on, or a repetition was interrupted: the same change is tried on what production is now."""
    why = "what was tried is gone" if _is_gone(context, tx) else "production changed since"
    context.progress.note(f"{tx.txid}: {why}, so the trial runs again on today's production")
    again = tx_run.rerun(context, tx)
    if again.status in ("completed", "resolved") or (again.status == "failed" and request.allow_failed_run):
        return again
    raise GovError(
        Code.TRIAL_FAILED, f"on today's production the trial of {tx.txid} is {again.status}: {again.error}",
        f"gov tx inspect {tx.txid}",
    )  # fmt: skip


def _promote(
    context: Context, tx: Transaction, request: PromoteRequest, stages: Stages, *, retried: bool
) -> PromoteResult:
    head = context.snapshots.require_head()
    proposed = _proposed_state(context, tx, context.snapshots.read(head.snapshot))
    with stages.stage("environment"):
        _seal_candidate(context, tx, proposed)
    faults.point("promote.sealed")
    _smoke(context, tx, proposed, request, stages)
    with stages.stage("commit"):
        before = Origin("promote_pre", f"before {tx.txid}", tx.txid, tx.node_id)
        approved = approved_lines(tx)
        who = audit.actor() if approved else None
        origin = Origin("promote_post", request.reason, tx.txid, tx.node_id, who)
        done = committing.commit_state(
            context, proposed, origin, before=before, approved=approved, restart=request.restart
        )
        pre = done.pre.id if done.pre else None
        faults.point("promote.committed")
        promotion = Promotion("promoted", request.reason, who, approved, pre, done.meta.id)
        tx = context.transactions.save(
            msgspec.structs.replace(tx, status="promoted", promotion=promotion, candidate_env=None)
        )
        discard_work(context, tx.txid)
    return PromoteResult(tx, done.meta, stages.seconds, retried)


def _proposed_state(context: Context, tx: Transaction, head: State) -> State:
    """The state of the trial's work directory on today's registry (packs that are not loaded may differ)."""
    work = context.home.work / tx.txid
    plan = tx.promotion_plan
    if plan is None or not (work / "uv.lock").is_file():
        raise GovError(Code.WRONG_STATE, f"the work of {tx.txid} is gone", change.command_of(tx))
    registry = head.registry
    for move in tx.moves():
        registry = registry.with_plugin(_promoted(context, tx, head.registry.get(move.id), move))
    seen = dataclasses.replace(head, registry=registry, baseline=_merged(head.baseline, tx.observed.health))
    proposed = seen.relocked((work / "pyproject.toml").read_bytes(), (work / "uv.lock").read_bytes(), plan.generation)
    if change.digest_of(proposed) != plan.state_digest:
        raise GovError(
            Code.WRONG_STATE,
            f"what {tx.txid} tried is not what would be promoted",
            change.command_of(tx),
        )
    return proposed


def _promoted(context: Context, tx: Transaction, known: Plugin | None, move: NodeMove) -> Plugin:
    if known is None:
        raise GovError(Code.WRONG_STATE, f"{move.id} is no longer registered", f"gov tx abort {tx.txid}")
    repository = clones.ensure_cached(context.git, recorded_source(known.source), move.after)
    return msgspec.structs.replace(
        known,
        ref=move.ref,
        commit=move.after,
        tree=context.git.tree_of(repository, move.after),
        archive=node_registry.sum_of(context.git, recorded_source(known.source), move.after),
        managed_deps=move.declared,
        enabled=True,
        promoted=True,
        place="",
    )


def _merged(before: Baseline, seen: Baseline) -> Baseline:
    """What the trial saw, and of packs that it did not load what was known before."""
    if not seen.core_classes:
        return before
    names = {pack.name for pack in seen.packs}
    packs = (*seen.packs, *(pack for pack in before.packs if pack.name not in names))
    return msgspec.structs.replace(seen, packs=tuple(sorted(packs, key=lambda pack: pack.name)))


def _seal_candidate(context: Context, tx: Transaction, proposed: State) -> None:
    """The very environment that was tried becomes the generation, unless something could write to it."""
    candidate = (context.home.root / tx.candidate_env).absolute() if tx.candidate_env else None
    usable = (
        candidate is not None
        and candidate.is_dir()
        and tx.observed.sandbox != "none"
        and record.freeze(candidate) == tx.post_freeze
        and tx.observed.environment_changes.empty()
    )
    if context.generations.is_sound(proposed.generation):
        return
    locking.refuse_under_running(context, proposed.generation)
    if usable and candidate is not None and not candidate.is_symlink():
        try:
            context.generations.seal(candidate, proposed.generation, context.interpreter)
        except GovError as error:
            if error.code is not Code.ENVIRONMENT_DAMAGED:
                raise
            context.progress.warn("the environment of the trial was changed since, so it is built anew")
        else:
            return
    base = context.snapshots.require_head().generation
    context.generations.build(context.home.work / tx.txid, proposed.generation, context.interpreter, base)


def _smoke(context: Context, tx: Transaction, proposed: State, request: PromoteRequest, stages: Stages) -> None:
    """`tx.smoke_test_cmd` on the sealed generation itself, before anything is committed."""
    if not context.config.tx.smoke_test_cmd or request.allow_failed_run:
        return
    environment = context.generations.path(proposed.generation).absolute()
    with stages.stage("smoke test"):
        plan = trying.plan(context, proposed, f"{tx.txid}-promote", environment, None)
        try:
            failed = [gate for gate in smoke.command(context, plan) if gate.verdict == "fail"]
        finally:
            fs.remove_tree(plan.work)
            if not boxing.box(context).protects_environment:
                context.generations.doubt(proposed.generation)
    if failed:
        raise GovError(Code.PROMOTE_FAILED, failed[0].reason, f"gov tx inspect {tx.txid}", failed[0].evidence)


def _record_failure(context: Context, tx: Transaction, error: BaseException) -> None:
    """`promote_failed`, unless it had been committed already, or was only refused as things are now."""
    head = context.snapshots.head()
    if head is not None and context.snapshots.meta(head.snapshot).txid == tx.txid:
        note_promotion(context)
        return
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, GovError) and error.code in _REFUSALS):
        return
    words = error.message if isinstance(error, GovError) else (str(error) or type(error).__name__)
    promotion = msgspec.structs.replace(tx.promotion, status="failed", error=words)
    context.transactions.save(msgspec.structs.replace(tx, status="promote_failed", promotion=promotion))
