"""Conflicts and ways out of them as text: read in ten seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.views import rejected_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.tx import ConflictReport, ConflictSide, Suggestion
    from comfygov.ops.suggesting import SuggestResult

_DEPENDENTS = 6
_REASONS = 8
_COSTS = 6


def conflict_lines(report: ConflictReport) -> Iterator[str]:
    yield f"conflict: {report.summary}"
    who = max((len(side.who) for side in report.sides), default=0)
    line = max((len(side.line) for side in report.sides), default=0)
    for side in report.sides:
        yield f"  {side.who:<{who}}  {side.line:<{line}}  {_where(side)}".rstrip()
    yield from rejected_lines(report.rejected[1:], "nor can be read")
    if report.production_version:
        yield f"  production has {report.package} {report.production_version}{_holds(report)}"
    if report.dependents:
        more = len(report.dependents) - _DEPENDENTS
        names = ", ".join(report.dependents[:_DEPENDENTS]) + (f" and {more} more" if more > 0 else "")
        yield f"  also on {report.package}: {names}"
    yield from _proof(report)


def _where(side: ConflictSide) -> str:
    return ", ".join(word for word in (side.where, "on trial" if side.on_trial else "") if word)


def _holds(report: ConflictReport) -> str:
    fine = [side.who for side in report.sides if side.admits_production]
    return f", which {' and '.join(fine)} can live with" if fine else ""


def _proof(report: ConflictReport) -> Iterator[str]:
    """Where the sides tell the story they are enough; else the resolver's words follow."""
    if report.verified and len(report.sides) > 1:
        yield f"  checked: these {len(report.sides)} lines have no solution; without any one of them there is one"
    elif report.sides and not report.verified:
        yield "  not checked with the resolver: taken from its words"
    direct = report.verified and report.package and all(side.admits_production is not None for side in report.sides)
    if direct and len(report.sides) > 1:
        return
    words = report.reasons if report.verified and report.sides else tuple(report.uv_text.splitlines())
    shown = words[:_REASONS] if report.verified else words
    yield from (f"  | {words}" for words in shown)


def suggestion_lines(result: SuggestResult) -> Iterator[str]:
    yield f"{result.transaction.txid}: {result.conflict.summary}"
    working = [entry for entry in result.suggestions if entry.works]
    for number, entry in enumerate(working, start=1):
        yield from _suggestion(number, entry)
    for entry in result.suggestions:
        if not entry.works:
            yield f"  does not work: {entry.title}"
            yield from (f"     {line}" for line in entry.cost[:1])
    if not result.suggestions:
        yield "  nothing that could be tried: no older state, no other version"


def _suggestion(number: int, entry: Suggestion) -> Iterator[str]:
    yield f"{number}. {entry.title}"
    for line in entry.cost[:_COSTS]:
        yield f"     {line}"
    if len(entry.cost) > _COSTS:
        yield f"     and {len(entry.cost) - _COSTS} more (--json lists them)"
    if not entry.cost:
        yield "     moves nothing in production"
    if not entry.core_impact.empty():
        yield "     core packages change: promote will need --approve-core"
    yield f"     {entry.command}"
