"""Results of bisect and outdated as text, in 80 columns as far as names allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.text import plural, short, when
from comfygov.cli.render.views import state_difference_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from comfygov.ops.bisect import BisectResult, Change, Step
    from comfygov.ops.outdated import CodeRow, Outdated, Packages, Release, Unanswered

WIDTH = 80
_LAST_WORDS = 5


def bisect_lines(result: BisectResult) -> Iterator[str]:
    yield from _verdict(result)
    for change in result.changes:
        yield from _change(change, alone=len(result.changes) == 1)
    before, after = result.difference.before, result.difference.after
    yield f"difference from {before} to {after}"
    yield from list(state_difference_lines(result.difference))[1:]
    yield f"{plural(len(result.steps), 'step')} in {result.seconds:.1f} s; {plural(result.states, 'distinct state')}"
    width = max(len(step.snapshot) for step in result.steps)
    for step in result.steps:
        yield from _step(step, width)
    yield f"logs        {result.logs}"


def _verdict(result: BisectResult) -> Iterator[str]:
    if len(result.changes) > 1:
        yield f"one of {len(result.changes)} changes {'mended' if result.mended else 'broke'} it:"
    elif result.mended:
        yield f"{result.last_good} is the first good state: this change mended it"
    else:
        yield f"{result.first_bad} is the first bad state: this change broke it"


def _change(change: Change, *, alone: bool) -> Iterator[str]:
    meta = change.snapshot
    about = [text for text in (meta.txid or "", f"pack {meta.node_id}" if meta.node_id else "") if text]
    if not alone:
        yield meta.id
    yield from _labelled("change", ", ".join([meta.kind, *about]))
    who = f"{change.actor}@{change.host}" if change.actor else "nobody that the audit knows"
    yield from _labelled("made", f"{when(meta.created_at)} by {who}")
    approved = f"by {meta.approved_by}" if meta.approved_by else ""
    for label, text in (("command", change.command), ("reason", meta.reason), ("approved", approved)):
        if text:
            yield from _labelled(label, text)
    if change.missing:
        yield from _labelled("or", f"a change whose snapshot is not kept any more: {_numbers(change.missing)}")


def _numbers(missing: Sequence[int]) -> str:
    return f"{missing[0]:04d}" if len(missing) == 1 else f"{missing[0]:04d} to {missing[-1]:04d}"


def _labelled(label: str, text: str) -> Iterator[str]:
    yield from _wrapped(text, f"  {label:<10}", " " * 12)


def _wrapped(text: str, first: str, further: str) -> list[str]:
    import textwrap

    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=further, break_on_hyphens=False, break_long_words=False
    )


def _step(step: Step, width: int) -> Iterator[str]:
    built = ", environment built" if step.built else ""
    start = f"  {step.snapshot:<{width}}  {step.verdict:<4}  {step.seconds:6.1f} s  "
    yield from _wrapped(f"{step.reason}{built}", start, " " * len(start))


def outdated_lines(result: Outdated) -> Iterator[str]:
    yield from _comfyui_lines(result.comfyui, result.release)
    yield from _pack_lines(result.packs)
    yield from _package_lines(result.packages)
    for problem in result.unanswered:
        yield from _unanswered_lines(problem)


def _unanswered_lines(problem: Unanswered) -> Iterator[str]:
    helps = f"  [{problem.hint}]" if problem.hint else ""
    yield from _wrapped(f"not known: {problem.subject}: {problem.problem}{helps}", "", "  ")
    if problem.kind == "packages":
        yield from (f"    {line}" for line in problem.details[-_LAST_WORDS:])


def _comfyui_lines(row: CodeRow, release: Release | None) -> Iterator[str]:
    if row.problem:
        return
    yield f"ComfyUI: {'can be newer' if row.outdated else 'is the newest'}"
    yield from _row(row.command or f"at {short(row.commit)}", _where(row))
    if release:
        what = "is part of it already" if release.included else f"{short(release.commit)}, the newest release"
        yield from _row(release.command or f"release {release.tag}", what)


def _pack_lines(packs: Sequence[CodeRow]) -> Iterator[str]:
    known = [row for row in packs if not row.problem]
    older = [row for row in known if row.outdated]
    unknown = f", {len(packs) - len(known)} not known" if len(known) < len(packs) else ""
    yield f"packs: {len(older)} of {len(packs)} can be newer{unknown}" if packs else "packs: none"
    for row in older:
        yield from _row(row.command, _where(row))
    newest = [f"{row.name} ({_pin(row)})" if row.pinned else row.name for row in known if not row.outdated]
    if newest:
        yield from _wrapped(f"the newest: {', '.join(newest)}", "  ", "    ")


def _where(row: CodeRow) -> str:
    """`1a2b3c4 -> 5d6e7f8, 3 commits behind main`"""
    start = f"{_pin(row)}; " if row.pinned else ""
    if not row.outdated:
        return f"{start}newest of {row.newest_of}" if row.newest == row.commit else f"{start}ahead of {row.newest_of}"
    behind = "" if row.behind is None else f", {plural(row.behind, 'commit')} behind {row.newest_of}"
    ahead = f", {plural(row.ahead, 'commit')} of its own" if row.ahead else ""
    return f"{start}{row.commit[:7]} -> {row.newest[:7]}{behind or f' of {row.newest_of}'}{ahead}"


def _pin(row: CodeRow) -> str:
    return f"pinned to {'tag ' + (row.ref or '') if row.follows == 'tag' else 'a commit'}"


def _package_lines(packages: Packages) -> Iterator[str]:
    if packages.problem:
        return
    yield f"packages: {len(packages.outdated)} of {packages.locked} can move within what is declared"
    width = max((len(row.command) for row in packages.outdated), default=0)
    for row in packages.outdated:
        core = "  core" if row.is_core else ""
        yield from _row(f"{row.command:<{min(width, WIDTH // 2 + 6)}}", f"{row.version} -> {row.newest}{core}")
    for word, sign, moved in (("come", "+", packages.added), ("go", "-", packages.removed)):
        if moved:
            names = ", ".join(f"{sign} {package.name} {package.version}" for package in moved)
            yield from _wrapped(f"with all of them would {word}: {names}", "  ", "    ")


def _row(left: str, right: str) -> Iterator[str]:
    """One line where both fit, else two."""
    if len(left) + len(right) + 4 <= WIDTH:
        yield f"  {left}  {right}"
    else:
        yield f"  {left.rstrip()}"
        yield from _wrapped(right, "      ", "      ")
