"""Transactions as text: one screen that answers "may I promote this?"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.conflict_views import conflict_lines
from comfygov.cli.render.text import difference, short, table, when
from comfygov.cli.render.views import rejected_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.tx import Gate, Transaction
    from comfygov.ops.tx_promote import PromoteResult
    from comfygov.ops.tx_view import TxDetail, TxList

EVIDENCE_LINES = 12
ACT_LINES = 5
_ACTS = (
    ("secrets", "asked for the secret"),
    ("deletes", "deleted"),
    ("writes", "wrote"),
    ("connections", "connected to"),
    ("processes", "started"),
    ("libraries", "loaded"),
)
_SIGNS = {"pass": "ok  ", "warn": "warn", "fail": "FAIL", "skip": "skip"}


def list_lines(result: TxList) -> Iterator[str]:
    rows = [(tx.txid, tx.node_id, tx.kind, tx.status, when(tx.started_at)) for tx in result.transactions]
    if rows:
        yield from table(rows, ("tx", "pack", "kind", "status", "started"))
    else:
        yield "no transactions yet: gov tx run NODE_ID"


def what(tx: Transaction) -> Iterator[str]:
    """Everything that the transaction changes, in words."""
    if tx.comfyui:
        yield f"ComfyUI {short(tx.comfyui.before)} -> {tx.comfyui.ref or short(tx.comfyui.after)}"
    for move in tx.moves():
        before = f"{short(move.before)} -> " if move.before else "at "
        after = " (disabled now; promote enables it)" if move.enables else ""
        yield f"{move.id} {before}{short(move.after)}{after}"
    words = (("want", tx.dependencies), ("drop", tx.dropped), ("upgrade", tx.upgrades), ("pin", tx.resolution_pins))
    for word, lines in words:
        yield from (f"{word} {line}" for line in lines)
    yield from (f"force {entry.requirement}" for entry in tx.overrides)


def detail_lines(detail: TxDetail) -> Iterator[str]:
    tx = detail.transaction
    yield f"{tx.txid}  {', '.join(what(tx))}  ({tx.kind}): {tx.status}"
    yield from _verdict(detail)
    if detail.conflict and not tx.gates:
        yield from conflict_lines(detail.conflict)
        return
    yield "gates"
    for gate in tx.gates:
        yield from _gate(gate)
    yield f"packages against {tx.base_snapshot}"
    yield from difference(tx.diff)
    yield from rejected_lines(tx.rejected, "not taken")
    seconds = ", ".join(f"{name} {took:.1f} s" for name, took in tx.stage_seconds.items())
    yield f"times: {seconds}"
    yield from _box(tx)
    yield from _acts(tx)
    yield f"logs: {tx.logs.stderr}"


def _box(tx: Transaction) -> Iterator[str]:
    seen = tx.observed
    yield f"sandbox: {seen.sandbox}{f', network: {seen.network}' if seen.network else ''}"
    if seen.sandbox_holds:
        yield f"  held: {'; '.join(seen.sandbox_holds)}"
    if seen.sandbox_does_not_hold:
        yield f"  not held: {'; '.join(seen.sandbox_does_not_hold)}"


def _acts(tx: Transaction) -> Iterator[str]:
    """What packs did besides registering nodes, the worst first."""
    if tx.observed.acts:
        yield "what packs did"
    for acts in tx.observed.acts:
        yield f"  {acts.pack or 'a pack that cannot be told'}"
        for request in acts.installs:
            yield f"    {request.answer}: {request.form} {request.command} {' '.join(request.requirements)}".rstrip()
        for name, word in _ACTS:
            shown = getattr(acts, name)
            more = acts.counts.get(name, 0) - len(shown[:ACT_LINES])
            for what in shown[:ACT_LINES]:
                yield f"    {word} {what}"
            if more > 0:
                yield f"    {word} {more} more: {tx.logs.events}"


def _verdict(detail: TxDetail) -> Iterator[str]:
    tx = detail.transaction
    if tx.status == "promoted":
        yield f"promoted as {tx.promotion.snapshot_post}; gov rollback {tx.promotion.snapshot_pre} goes back"
    elif tx.status in ("completed", "resolved") and not detail.blockers:
        yield f"may be promoted: gov tx promote {tx.txid}"
    elif not tx.core_impact.empty() and tx.status in ("completed", "resolved"):
        yield f'may be promoted with your approval: gov tx promote {tx.txid} --approve-core --reason "…"'
    else:
        yield from _why_not(detail)
        if tx.status == "needs_resolution" and not tx.gates:
            # No resolver can try ways around a line that it cannot read; a person can say what it means.
            unreadable = detail.conflict is not None and detail.conflict.form == "malformed"
            way = "--pin PACKAGE==VERSION" if unreadable else "--suggest"
            yield f"next: gov resolve {tx.txid} {way} (or gov tx abort {tx.txid}; production is untouched)"
        elif tx.status not in ("aborted", "running"):
            yield f"next: gov tx abort {tx.txid} (production is untouched)"


def _why_not(detail: TxDetail) -> Iterator[str]:
    if detail.conflict and not detail.transaction.gates:
        yield "may not be promoted: no environment holds it"
        return
    yield "may not be promoted:"
    for blocker in detail.blockers:
        yield f"  {blocker}"


def _gate(gate: Gate) -> Iterator[str]:
    yield f"  {_SIGNS[gate.verdict]}  {gate.name}: {gate.reason}"
    if gate.verdict in ("fail", "warn"):
        for line in gate.evidence[-EVIDENCE_LINES:]:
            yield f"          {line}"


def promoted_lines(result: PromoteResult) -> Iterator[str]:
    tx = result.transaction
    if result.retried_trial:
        yield "the trial was run again, because production had changed"
    yield f"in production: {', '.join(what(tx))} (snapshot {result.snapshot.id})"
    yield from difference(tx.diff)
    seconds = ", ".join(f"{name} {took:.2f} s" for name, took in result.stage_seconds.items())
    yield f"times: {seconds}"
    yield f"back: gov rollback {tx.promotion.snapshot_pre}"
