"""Small pieces of text that several views use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from comfygov.model.tx import Difference

MANY = 40


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> Iterator[str]:
    """Columns as wide as they need to be; the last one is not padded."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        yield "  ".join([*cells, row[-1]]).rstrip()


def difference(found: Difference, indent: str = "  ") -> Iterator[str]:
    lines = found.lines()
    if not lines:
        yield f"{indent}no package changes"
    for line in lines[:MANY]:
        yield indent + line
    if len(lines) > MANY:
        yield f"{indent}… and {len(lines) - MANY} more (--json shows all)"


def when(recorded: str) -> str:
    """A recorded time (RFC 3339, UTC) on the clock of whoever reads; as it is recorded where it cannot be read."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(recorded.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return recorded or "-"


def short(commit: str | None) -> str:
    return commit[:10] if commit else "-"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
