"""Governed homes to measure: one with a long history, and one of a person who has just begun."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kit.governed import Governed
from tests.kit.repos import git, make_pack

from comfygov.model.state import Baseline, Head, PackHealth, Plugin, Registry
from comfygov.model.tx import (
    Difference,
    Gate,
    Kind,
    Observed,
    PackageVersion,
    Promotion,
    Status,
    Transaction,
)
from comfygov.ops.context import open_home
from comfygov.ports.progress import Silent
from comfygov.truth import commit
from comfygov.truth.snapshots import Origin

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State

PACKAGES = 100


@dataclass(frozen=True)
class Size:
    """How much has happened in a home."""

    packs: int
    snapshots: int
    transactions: int


LONG = Size(packs=50, snapshots=200, transactions=1000)
_STATUSES: tuple[Status, ...] = ("promoted", "promoted", "promoted", "promoted", "aborted", "failed")


@dataclass
class Own(Governed):
    """A home on this person's own caches and variables; `given` is one that is there already."""

    given: Path | None = None

    @property
    def home(self) -> Path:
        return self.given or self.root / "home"

    def environment(self) -> dict[str, str]:
        cache = {} if self.given else {"COMFYGOV_CACHE": str(self.root / "cache")}
        return {**os.environ, **cache, "COMFY_HOME": str(self.home)}


def with_history(root: Path, size: Size = LONG) -> Governed:
    """A home on the stand-in with 100 packages, and as many packs, snapshots and transactions as asked for."""
    made = Governed(root)
    names = [f"package-{number:03d}" for number in range(PACKAGES)]
    for name in names:
        made.wheel(name, "1.0")
    made.init(requirements="\n".join(names)).ok()
    context = open_home(str(made.home), "benchmark", Silent())
    state = _with_packs(context, size.packs)
    _write_snapshots(context, state, size.snapshots)
    freeze = tuple(f"{name}==1.0" for name in names)
    for number in range(1, size.transactions + 1):
        context.transactions.save(_transaction(number, size, freeze, state.baseline))
    return made


def _with_packs(context: Context, packs: int) -> State:
    """The state of head with packs, whose checkouts are real repositories at their commits."""
    plugins = [_pack(context, f"pack-{number:02d}") for number in range(packs)]
    state = context.head_state()
    health = tuple(PackHealth(plugin.id, loaded=True, classes=(plugin.id,), seconds=0.01) for plugin in plugins)
    baseline = Baseline(core_classes=tuple(f"Class{number:04d}" for number in range(800)), packs=health)
    return dataclasses.replace(state, registry=Registry(tuple(plugins)), baseline=baseline)


def _pack(context: Context, name: str) -> Plugin:
    checkout = make_pack(context.home.custom_nodes / name)
    git(checkout, "checkout", "-q", "--detach")
    return Plugin(
        id=name,
        source=str(checkout),
        commit=git(checkout, "rev-parse", "HEAD"),
        tree=git(checkout, "rev-parse", "HEAD^{tree}"),
        group=f"node-{name}",
        enabled=True,
        promoted=True,
    )


def _write_snapshots(context: Context, state: State, snapshots: int) -> None:
    """Snapshots up to the number; the last is head, and the disk is brought to it."""
    previous = context.snapshots.require_head().snapshot
    meta = context.snapshots.create(state, Origin("manual"), previous)
    while meta.number < snapshots:
        previous = meta.id
        meta = context.snapshots.create(state, Origin("promote_post", node_id="pack-00"), previous)
    context.snapshots.write_head(Head(meta.id, meta.generation, meta.created_at, previous))
    commit.materialise(context.home, context.git, state)


def _transaction(number: int, size: Size, freeze: tuple[str, ...], health: Baseline) -> Transaction:
    """A record of about the size of a real one; the last few wait for somebody."""
    kind: Kind = "node_update" if number % 3 else "node_first_run"
    return Transaction(
        txid=f"tx{number:04d}",
        node_id=f"pack-{number % size.packs:02d}",
        kind=kind,
        status="completed" if number > size.transactions - 3 else _STATUSES[number % len(_STATUSES)],
        started_at="2026-01-01T00:00:00Z",
        ended_at="2026-01-01T00:01:00Z",
        base_snapshot="0001-init",
        pre_freeze=freeze,
        post_freeze=(*freeze, "new==1.0"),
        diff=Difference(added=(PackageVersion("new", "1.0"),)),
        observed=Observed(sandbox="landlock", boot_seconds=12.0, health=health),
        gates=tuple(Gate(f"gate{gate}", "pass", "as it should be") for gate in range(8)),
        promotion=Promotion("promoted"),
    )
