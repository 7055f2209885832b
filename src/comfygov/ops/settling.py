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
    from comfygov.model.tx import Verdict
    from comfygov.ops.context import Context


@dataclass(frozen=True)
class Settled:
    """`notes` are (verdict, words) about overlapping packages of which only one can stay."""

    pyproject: bytes
    uv_lock: bytes
    declared: Declaration
    notes: tuple[tuple[Verdict, str], ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        return locked_versions(self.uv_lock.decode())


@dataclass(frozen=True)
class Wishes:
    """`upgrade` may leave the versions of production, `asked_for` need not be held there."""

    upgrade: Sequence[str] = ()
    asked_for: frozenset[str] = frozenset()

    def free(self) -> frozenset[str]:
        """Packages that may move. The torch family is one thing: who names one of it names all."""
        named = self.asked_for | {canonical(name) for name in self.upgrade}
        return named | frozenset(torch_family.MEMBERS) if named & set(torch_family.MEMBERS) else named


def settle(context: Context, work: Path, declared: Declaration, base_lock: bytes, wishes: Wishes) -> Settled:
    """Lock `declared` in `work`, close to `base_lock`. Raises NoSolution.

    Held versions and torch pins are only tried: they steer the lock and are no part of what is declared.
    """
    base = locked_versions(base_lock.decode())
    upgrade = _whole_family(wishes.upgrade, base)
    found = _one_of_each(context, work, _lock(context, work, declared, base_lock, upgrade), base)
    near = found.uv_lock if upgrade else base_lock
    found, held = _with_holds(context, work, found, near, _holds(context, base, wishes), base)
    return _with_fitting_torch(context, work, found, held)


def _whole_family(upgrade: Sequence[str], base: dict[str, str]) -> tuple[str, ...]:
    """One of torch's family alone cannot move."""
    members = set(torch_family.MEMBERS)
    if not members & {canonical(name) for name in upgrade}:
        return tuple(upgrade)
    return tuple(dict.fromkeys((*upgrade, *(name for name in torch_family.MEMBERS if name in base))))


def _lock(
    context: Context, work: Path, declared: Declaration, preferred: bytes, upgrade: Sequence[str] = ()
) -> Settled:
    return Settled(*locking.lock(context, work, declared, preferred, upgrade), declared)


def _try(context: Context, work: Path, found: Settled, pins: Sequence[str], near: bytes) -> Settled | None:
    """The same declaration, locked as it comes out under `pins` and `near` a lock; None where nothing does."""
    pinned = msgspec.structs.replace(found.declared, constraints=(*found.declared.constraints, *pins))
    try:
        _, steered = locking.lock(context, work / "steered", pinned, near)
    except locking.NoSolution:
        return None
    return dataclasses.replace(_lock(context, work, found.declared, steered), notes=found.notes)


def _one_of_each(context: Context, work: Path, found: Settled, base: dict[str, str]) -> Settled:
    for there in alternatives.overlapping(found.versions):
        found = _one_of(context, work, found, there, alternatives.chosen(there, context.config.policy.keep, base))
    return found


def _one_of(context: Context, work: Path, found: Settled, there: Sequence[str], wanted: str) -> Settled:
    """The family with one member: the wanted one, else another that everybody can live with."""
    shown = f"{' and '.join(there)} overwrite each other's files"
    for kept in dict.fromkeys((wanted, *there)):
        try:
            again = _lock(context, work, alternatives.with_one(found.declared, there, kept), found.uv_lock)
        except locking.NoSolution:
            continue
        said: tuple[Verdict, str] = ("warn", f"{shown}: {kept} is kept ([policy] keep chooses)")
        return dataclasses.replace(again, notes=(*found.notes, said))
    again = _lock(context, work, found.declared, found.uv_lock)
    return dataclasses.replace(again, notes=(*found.notes, ("fail", f"{shown}, and none of them fits all who ask")))


def _holds(context: Context, base: dict[str, str], wishes: Wishes) -> dict[str, str]:
    """Core package -> the pin that keeps it at production's version, as far as nobody asked to move it."""
    free = wishes.free()
    core = [canonical(name) for name in context.config.policy.core_packages] if "*" not in free else []
    return {name: f"{name}=={base[name]}" for name in core if name in base and name not in free}


def _with_holds(
    context: Context, work: Path, found: Settled, near: bytes, holds: dict[str, str], base: dict[str, str]
) -> tuple[Settled, tuple[str, ...]]:
    """Core packages that moved are moved back, each that can be; and the pins that were used."""
    after = found.versions
    moved = [name for name in holds if after.get(name, base[name]) != base[name]]
    if not moved:
        return found, tuple(holds.values())
    whole = _try(context, work, found, tuple(holds.values()), near)
    if whole is not None:
        return whole, tuple(holds.values())
    kept = [pin for name, pin in holds.items() if name not in moved]
    for name in moved:
        back = _try(context, work, found, (*kept, holds[name]), near)
        if back is not None:
            found = back
            kept.append(holds[name])
    return found, tuple(kept)


def _with_fitting_torch(context: Context, work: Path, found: Settled, held: Sequence[str]) -> Settled:
    """torch's family as a set that fits: for the torch that is there, else for the newest of another member."""
    others = tuple(pin for pin in held if pin.partition("==")[0] not in torch_family.MEMBERS)
    for pins in torch_family.fitting(found.versions):
        for more in dict.fromkeys((others, ())):
            fits = _try(context, work, found, (*more, *pins), found.uv_lock)
            if fits is not None and torch_family.misfit(fits.versions) is None:
                return fits
    return found
