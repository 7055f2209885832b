"""Results of verify, gc and audit as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.text import plural, when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.audit import AuditChecked, AuditLog
    from comfygov.ops.gc import GcResult
    from comfygov.ops.verify import Verified


def verified_lines(result: Verified) -> Iterator[str]:
    how = "every file read" if result.deep else "sizes and names; --deep reads every file"
    if not result.findings:
        yield f"production is {result.snapshot} ({how})"
    for finding in result.findings:
        yield f"{finding.kind}  {finding.subject}: {finding.problem}  [{finding.mend}]"


def gc_lines(result: GcResult) -> Iterator[str]:
    word = "would free" if result.dry_run else "freed"
    for item in result.removed:
        yield f"{item.kind:<12}{size(item.bytes):>9}  {item.path}  ({item.reason})"
    for line in result.kept_back:
        yield f"kept  {line}"
    yield f"{word} {size(result.freed_bytes)}" if result.removed else "nothing to remove"


def size(count: int) -> str:
    """`1.2 GB`: powers of 1000, as disks are sold and `df -H` counts."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def audit_lines(result: AuditLog) -> Iterator[str]:
    for line in result.entries:
        moved = line.after or "-" if line.before == line.after else f"{line.before or 'nothing'} -> {line.after}"
        yield f"{when(line.at)}  {line.actor}@{line.host}  {line.action}  {moved}"
        yield f"    {line.command}"
        for word, text in (("reason", line.reason), ("approved", ", ".join(line.approved))):
            if text:
                yield f"    {word}: {text}"
    if result.total > len(result.entries):
        yield f"the last {len(result.entries)} of {result.total} lines (-n 0 shows all)"


def audit_checked_lines(result: AuditChecked) -> Iterator[str]:
    yield from result.problems
    if not result.problems:
        yield f"{plural(result.lines, 'line')}, the chain is whole and ends where head says"
