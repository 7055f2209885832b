"""`gov audit`: what was done, by whom, and whether the record of it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import GovError
from comfygov.model.state import AuditEntry
from comfygov.truth import audit as chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context


class AuditLog(msgspec.Struct, frozen=True):
    """The last `entries` of `total`, oldest first."""

    entries: tuple[AuditEntry, ...]
    total: int


class AuditChecked(msgspec.Struct, frozen=True):
    """`problems` is empty when nothing was edited, removed, moved or cut off."""

    lines: int
    problems: tuple[str, ...]


def read(context: Context, last: int) -> AuditLog:
    """The last lines; 0 means all."""
    found = chain.entries(context.home.audit_file)
    return AuditLog(tuple(found[-last:] if last else found), len(found))


def check(context: Context) -> AuditChecked:
    """Follow the chain to the line that head remembers, and hold the snapshots that are kept against it."""
    lines = chain.entries(context.home.audit_file)
    problems = chain.problems(context.home.audit_file, context.snapshots.head(), context.snapshots.pending())
    return AuditChecked(len(lines), (*problems, *_changed_snapshots(context, lines)))


def _changed_snapshots(context: Context, lines: list[AuditEntry]) -> Iterator[str]:
    states = {line.after: line.state for line in lines if line.after and line.state}
    for name in context.snapshots.ids():
        if name not in states:
            continue
        try:
            digest = context.snapshots.read(name).digest()
        except GovError as error:
            yield f"snapshot {name} cannot be read: {error.message}"
            continue
        if digest != states[name]:
            yield f"snapshot {name} is not what was committed: its files were edited"
