"""The lock of a change that moves as little as it can: one of each overlapping family, core packages where they
are, torch and its family as a set that fits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from comfygov.model.names import canonical
from comfygov.ops import locking
from comfygov.resolve import alternatives, torch_family
from comfygov.resolve.torch_family import locked_versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.ops.context import Context


@dataclass(frozen=True)
class Settled:
    """`notes` say of which overlapping packages only one is kept."""

    pyproject: bytes
    uv_lock: bytes
    declared: Declaration
    notes: tuple[str, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        return locked_versions(self.uv_lock.decode())


@dataclass(frozen=True)
class Wishes:
    """`upgrade` may leave the versions of production, `asked_for` need not be held there."""

    upgrade: Sequence[str] = ()
    asked_for: frozenset[str] = frozenset()


def settle(context: Context, work: Path, declared: Declaration, base_lock: bytes, wishes: Wishes) -> Settled:
    """Lock `declared` in `work`, close to `base_lock`. Raises NoSolution.

    Held versions and torch pins are only tried: they steer the lock and are no part of what is declared.
    """
    found = _one_of_each(context, work, _lock(context, work, declared, base_lock, wishes.upgrade), base_lock)
    near = found.uv_lock if wishes.upgrade else base_lock
    found = _steered(context, work, found, _held(context, found, base_lock, wishes), near)
    misfit = torch_family.misfit(found.versions)
    return _steered(context, work, found, misfit[1] if misfit else (), near)


def _lock(
    context: Context, work: Path, declared: Declaration, preferred: bytes, upgrade: Sequence[str] = ()
) -> Settled:
    return Settled(*locking.lock(context, work, declared, preferred, upgrade), declared)


def _one_of_each(context: Context, work: Path, found: Settled, base_lock: bytes) -> Settled:
    production, notes, declared = locked_versions(base_lock.decode()), [], found.declared
    for there in alternatives.overlapping(found.versions):
        kept = alternatives.chosen(there, context.config.policy.keep, production)
        declared = alternatives.with_one(declared, there, kept)
        notes.append(f"{' and '.join(there)} overwrite each other's files: {kept} is kept ([policy] keep chooses)")
    if not notes:
        return found
    again = _lock(context, work, declared, found.uv_lock)
    return dataclasses.replace(again, notes=tuple(notes))


def _held(context: Context, found: Settled, base_lock: bytes, wishes: Wishes) -> tuple[str, ...]:
    """Production's versions of the core packages, when one of them moved that nobody asked to move.

    The torch family is one thing: who asks for one of it asks for all.
    """
    free = set(wishes.asked_for) | {canonical(name) for name in wishes.upgrade}
    if free & set(torch_family.MEMBERS):
        free |= set(torch_family.MEMBERS)
    before, after = locked_versions(base_lock.decode()), found.versions
    core = [canonical(name) for name in context.config.policy.core_packages]
    if "*" in free or not any(before[n] != after.get(n, before[n]) for n in core if n in before and n not in free):
        return ()
    return tuple(f"{name}=={before[name]}" for name in core if name in before and name not in free)


def _steered(context: Context, work: Path, found: Settled, pins: Sequence[str], near: bytes) -> Settled:
    """The same declaration, locked as it comes out under `pins` and `near` a lock; `found` where nothing does."""
    if not pins:
        return found
    pinned = msgspec.structs.replace(found.declared, constraints=(*found.declared.constraints, *pins))
    try:
        _, steered = locking.lock(context, work / "steered", pinned, near)
    except locking.NoSolution:
        return found
    return dataclasses.replace(_lock(context, work, found.declared, steered), notes=found.notes)
