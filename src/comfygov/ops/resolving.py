"""`gov resolve`: pins and forced versions for a change that has no solution, proven by a new trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.tx import Override, Transaction
from comfygov.ops import change, tx_run
from comfygov.ops.context import transaction
from comfygov.resolve import requirements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.ops.context import Context

_OPEN = ("needs_resolution", "promote_failed", "resolved")


class ResolveRequest(msgspec.Struct, frozen=True):
    """`pins` and `overrides` are `package==version`; a new one for a package takes the place of an older one.
    Older ones stay unless their package is in `unpinned`."""

    txid: str
    pins: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    unpinned: tuple[str, ...] = ()
    reason: str = ""
    timeout_seconds: float | None = None


def open_transaction(context: Context, txid: str) -> Transaction:
    """The transaction, if it is one that can be resolved."""
    tx = transaction(context, txid)
    if tx.status not in _OPEN:
        hints = {"completed": f"gov tx promote {tx.txid}", "promoted": "gov status"}
        hint = hints.get(tx.status, change.command_of(tx))
        raise GovError(Code.WRONG_STATE, f"{tx.txid} is {tx.status}: there is nothing to resolve", hint)
    return tx


def resolve(context: Context, request: ResolveRequest) -> Transaction:
    """Try the change again with what is pinned: `resolved`, or still `needs_resolution` with a new report."""
    tx = open_transaction(context, request.txid)
    if request.overrides and not request.reason.strip():
        raise GovError(
            Code.USAGE, "a forced version goes against what a pack asks for, and needs a reason", 'add --reason "…"'
        )
    if request.reason.strip() and not request.overrides:
        raise GovError(
            Code.USAGE, "a reason is kept with a forced version, and none is given", "leave --reason out, or --override"
        )
    if not (request.pins or request.overrides or request.unpinned):
        raise GovError(Code.USAGE, "nothing is pinned", f"gov resolve {tx.txid} --suggest shows what would work")
    pins = tuple(map(exact_pin, request.pins))
    forced = tuple(Override(exact_pin(text), request.reason) for text in request.overrides)
    _refuse_unpinned(tx, request.unpinned)
    _refuse_contradiction((*pins, *(entry.requirement for entry in forced), *request.unpinned))
    pins, overrides = change.replaced(tx.resolution_pins, tx.overrides, pins, forced, request.unpinned)
    return tx_run.rerun(context, tx, pins=pins, overrides=overrides, timeout_seconds=request.timeout_seconds)


def _refuse_contradiction(said: Sequence[str]) -> None:
    """One package, one word about it."""
    seen: dict[str, str] = {}
    for text in dict.fromkeys(said):
        package = requirements.package_of(text)
        if package in seen:
            raise GovError(Code.USAGE, f"{package} is named twice: `{seen[package]}` and `{text}`", "leave one out")
        seen[package] = text


def _refuse_unpinned(tx: Transaction, names: Sequence[str]) -> None:
    for name in names:
        if requirements.package_of(name) not in pinned_packages(tx):
            raise GovError(Code.NOT_FOUND, f"{tx.txid} pins no package `{name}`", f"gov tx inspect {tx.txid}")


def pinned_packages(tx: Transaction) -> tuple[str, ...]:
    """The packages that the transaction pins or forces."""
    forced = (entry.requirement for entry in tx.overrides)
    return tuple(requirements.package_of(text) for text in (*tx.resolution_pins, *forced))


def exact_pin(text: str) -> str:
    """`package==version` without blanks. Raises `usage` for anything else."""
    found = requirements.parse(text)
    exact = found is not None and [spec.operator for spec in found.specifier] == ["=="]
    if found is None or not exact or "*" in text or found.url or found.marker or found.extras:
        raise GovError(Code.USAGE, f"`{text}` is no pin", "write package==version, for example numpy==2.2.6")
    return f"{found.name}{found.specifier}"
