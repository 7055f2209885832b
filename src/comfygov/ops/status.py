"""`gov status`: what production is, whether it is healthy, what waits. It only reads."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import msgspec

from comfygov.model.state import LockHolder, RunRecord
from comfygov.model.tx import PENDING, TxSummary
from comfygov.ops import production, sync
from comfygov.ports import lock

if TYPE_CHECKING:
    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State

RECENT = 5


class Status(msgspec.Struct, frozen=True):
    """Counts of `transactions` are by status. `drift` is the quick verdict."""

    home: str
    prod_env_exists: bool
    lock_exists: bool
    head: str | None
    generation: str | None
    comfyui_commit: str | None
    nodes_enabled: int
    nodes_registered: int
    snapshots: int
    transactions: dict[str, int]
    pending: tuple[TxSummary, ...]
    recent: tuple[TxSummary, ...]
    running: RunRecord | None
    drift: tuple[str, ...]
    unfinished: str | None
    busy: LockHolder | None


def status(context: Context) -> Status:
    head = context.snapshots.head()
    state = context.snapshots.read(head.snapshot) if head else None
    summaries = context.transactions.summaries()
    unfinished = context.snapshots.pending()
    return Status(
        home=str(context.home.root),
        prod_env_exists=(context.home.production_link / "bin" / "python").exists(),
        lock_exists=(context.home.root / "uv.lock").is_file(),
        head=head.snapshot if head else None,
        generation=head.generation if head else None,
        comfyui_commit=state.comfyui_commit if state else None,
        nodes_enabled=len(state.registry.enabled()) if state else 0,
        nodes_registered=len(state.registry.plugins) if state else 0,
        snapshots=len(context.snapshots.ids()),
        transactions=_counts(summaries),
        pending=tuple(tx for tx in summaries if tx.status in PENDING and tx.status != "failed"),
        recent=tuple(reversed(summaries[-RECENT:])),
        running=production.running(context),
        drift=_drift(context, state) if state else (_unfinished(context),),
        unfinished=unfinished.command if unfinished else None,
        busy=lock.holder(context.home.lock_file),
    )


def _unfinished(context: Context) -> str:
    what = "state/head.json is lost" if context.snapshots.ids() else "init did not finish"
    return f"{what}: gov init --path {shlex.quote(str(context.home.root))}"


def _drift(context: Context, state: State) -> tuple[str, ...]:
    return (*sync.lost_interpreter(context), *sync.drift(context, state, thorough=False))


def _counts(summaries: list[TxSummary]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tx in summaries:
        counts[tx.status] = counts.get(tx.status, 0) + 1
    return counts
