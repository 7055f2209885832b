"""What a transaction wants to be different, and what production would be declared to be with it."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from comfygov.model.state import Resolution
from comfygov.model.tx import CodeMove, NodeMove, Override
from comfygov.ops import locking
from comfygov.resolve import requirements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from comfygov.model.state import ComfyUIPin, Declaration, Plugin, Registry
    from comfygov.model.tx import Kind, Rejected, Transaction
    from comfygov.resolve.requirements import Declared
    from comfygov.truth.snapshots import State

COMFYUI = "ComfyUI"
PACKAGES = "packages"


@dataclass(frozen=True)
class PackOnTrial:
    """A pack at the commit that is to be tried, and what it asks for there."""

    plugin: Plugin
    declared: Declared
    before: str | None

    @property
    def id(self) -> str:
        return self.plugin.id

    def move(self) -> NodeMove:
        plugin = self.plugin
        enables = plugin.promoted and not plugin.enabled
        lines = tuple(self.declared.requirements)
        return NodeMove(plugin.id, self.before, plugin.commit, plugin.ref, lines, enables)

    def tried(self) -> Plugin:
        """The pack as promote would register it."""
        lines = tuple(self.declared.requirements)
        return msgspec.structs.replace(self.plugin, managed_deps=lines, enabled=True, promoted=True, place="")


@dataclass(frozen=True)
class ComfyUIOnTrial:
    """ComfyUI at the commit that is to be tried. `version` is what its code says of itself."""

    pin: ComfyUIPin
    declared: Declared
    before: str
    version: str

    def move(self) -> CodeMove:
        return CodeMove(self.pin.repo, self.before, self.pin.commit, self.pin.ref)


@dataclass(frozen=True)
class Change:
    """Packs, ComfyUI, packages, and what was added so that they fit: any of them, tried as one."""

    packs: tuple[PackOnTrial, ...] = ()
    comfyui: ComfyUIOnTrial | None = None
    dependencies: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    upgrades: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(pack.id for pack in self.packs)

    @property
    def label(self) -> str:
        """What records call the change: its first pack, else ComfyUI, else packages."""
        if self.packs:
            return self.packs[0].id
        return COMFYUI if self.comfyui else PACKAGES

    @property
    def kind(self) -> Kind:
        if self.comfyui:
            return "comfyui_update"
        if not self.packs:
            return "dependency_change"
        return "node_update" if all(pack.before for pack in self.packs) else "node_first_run"

    def everything_declared(self) -> list[Declared]:
        return [pack.declared for pack in self.packs] + ([self.comfyui.declared] if self.comfyui else [])

    def declared_lines(self) -> tuple[str, ...]:
        lines = [line for declared in self.everything_declared() for line in declared.requirements]
        return tuple(dict.fromkeys([*lines, *self.dependencies]))

    def rejected(self) -> tuple[Rejected, ...]:
        return tuple(line for declared in self.everything_declared() for line in declared.rejected)

    def malformed(self, base: Declaration) -> tuple[Rejected, ...]:
        """The lines that no resolver can read and that no pin, new or of `base`, stands in for."""
        forced = (entry.requirement for entry in self.overrides)
        known = (entry.requirement for entry in base.resolutions)
        pinned = {requirements.package_of(text) for text in (*self.pins, *forced, *known)}
        lines = (line for declared in self.everything_declared() for line in declared.malformed)
        return tuple(line for line in lines if requirements.name_at_start(line.text) not in pinned)

    def asked_for(self) -> frozenset[str]:
        """Packages that the person named: they are not held where they are."""
        lines = (*self.dependencies, *self.dropped, *self.upgrades, *self.pins)
        return frozenset(map(requirements.package_of, (*lines, *self._forced())))

    def pinned(self, pins: tuple[str, ...], overrides: tuple[Override, ...]) -> Change:
        """The change as `gov resolve` with these would try it."""
        pins, overrides = replaced(self.pins, self.overrides, pins, overrides)
        return dataclasses.replace(self, pins=pins, overrides=overrides)

    def _forced(self) -> list[str]:
        return [entry.requirement for entry in self.overrides]

    def registry(self, base: Registry) -> Registry:
        for pack in self.packs:
            base = base.with_plugin(pack.tried())
        return base

    def declaration(self, base: Declaration, txid: str) -> Declaration:
        """`base` with everything of the change in it."""
        groups = {**base.groups, **{pack.plugin.group: tuple(pack.declared.requirements) for pack in self.packs}}
        if self.comfyui:
            groups[locking.COMFYUI_GROUP] = tuple(self.comfyui.declared.requirements)
        gone = {requirements.package_of(text) for text in (*self.dependencies, *self.dropped)}
        own = tuple(line for line in groups.get(locking.EXTRA_GROUP, ()) if requirements.package_of(line) not in gone)
        groups[locking.EXTRA_GROUP] = (*own, *self.dependencies)
        return msgspec.structs.replace(
            base,
            comfyui=self.comfyui.pin if self.comfyui else base.comfyui,
            groups={name: lines for name, lines in groups.items() if lines or name != locking.EXTRA_GROUP},
            resolutions=self._resolutions(base, txid, {requirements.package_of(text) for text in self.dropped}),
        )

    def _resolutions(self, base: Declaration, txid: str, gone: set[str]) -> tuple[Resolution, ...]:
        owners = (*sorted(self.ids), *([COMFYUI] if self.comfyui else []))
        owners = owners or (PACKAGES,)
        new = [Resolution(pin, txid=txid, owners=owners) for pin in self.pins]
        new += [
            Resolution(entry.requirement, forced=True, reason=entry.reason, txid=txid, owners=owners)
            for entry in self.overrides
        ]
        new = [_with_owners_of(base, entry) for entry in new]
        replaced = gone | {requirements.package_of(entry.requirement) for entry in new}
        kept = [entry for entry in base.resolutions if requirements.package_of(entry.requirement) not in replaced]
        return tuple(sorted([*kept, *new], key=lambda entry: (entry.requirement, entry.forced)))


def command_of(tx: Transaction, refs: dict[str, str] | None = None) -> str:
    """The `gov tx run` that proposes what `tx` proposed, once more; with other or further packs at `refs`
    (an empty ref: the newest)."""
    packs = {**{move.id: move.ref or "" for move in tx.moves()}, **(refs or {})}
    words = ["gov", "tx", "run", *(f"{name}@{ref}" if ref else name for name, ref in packs.items())]
    if tx.comfyui:
        words += ["--comfyui", tx.comfyui.ref or tx.comfyui.after]
    for option, values in (("--dep", tx.dependencies), ("--drop", tx.dropped), ("--upgrade", tx.upgrades)):
        words += [word for value in values for word in (option, value)]
    return shlex.join(words)


def replaced(
    pins: tuple[str, ...],
    overrides: tuple[Override, ...],
    new_pins: tuple[str, ...],
    new_overrides: tuple[Override, ...],
    taken_back: Iterable[str] = (),
) -> tuple[tuple[str, ...], tuple[Override, ...]]:
    """Pins and forced versions after new ones came: of one package only the newest counts."""
    forced = (entry.requirement for entry in new_overrides)
    named = {requirements.package_of(text) for text in (*new_pins, *forced, *taken_back)}
    old_pins = tuple(text for text in pins if requirements.package_of(text) not in named)
    old = tuple(entry for entry in overrides if requirements.package_of(entry.requirement) not in named)
    return (*old_pins, *new_pins), (*old, *new_overrides)


def _with_owners_of(base: Declaration, new: Resolution) -> Resolution:
    """Who needed the package resolved before needs it still."""
    same = [entry for entry in base.resolutions if _is_about(entry, new)]
    owners = dict.fromkeys([*new.owners, *(owner for entry in same for owner in entry.owners)])
    return msgspec.structs.replace(new, owners=tuple(owners))


def _is_about(one: Resolution, other: Resolution) -> bool:
    return requirements.package_of(one.requirement) == requirements.package_of(other.requirement)


def without_owner(resolutions: Iterable[Resolution], node_id: str, *, keep: bool = False) -> tuple[Resolution, ...]:
    """`resolutions` after a pack went: those that were there for it alone go too, or, with `keep`, are the person's."""
    kept = []
    for entry in resolutions:
        owners = tuple(name for name in entry.owners if name != node_id)
        if owners or keep or not entry.owners:
            kept.append(msgspec.structs.replace(entry, owners=owners or (PACKAGES,)))
    return tuple(kept)


def digest_of(state: State) -> str:
    """What a trial saw: the lock, and every commit of ComfyUI and of the enabled packs."""
    commits = [state.declared.comfyui.commit, *(f"{p.id} {p.commit}" for p in state.registry.enabled())]
    return hashlib.sha256(state.uv_lock + "\n".join(commits).encode()).hexdigest()
