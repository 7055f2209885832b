"""`gov snapshot list|inspect|create|diff` and `gov rollback`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs.record import difference
from comfygov.errors import Code, GovError
from comfygov.model.state import ComfyUIPin, Plugin, SnapshotMeta
from comfygov.model.tx import Difference
from comfygov.ops import committing, production, sync
from comfygov.ops.context import changing
from comfygov.resolve.torch_family import locked_versions
from comfygov.truth import audit, commit
from comfygov.truth.snapshots import Origin

if TYPE_CHECKING:
    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State


class SnapshotList(msgspec.Struct, frozen=True):
    head: str
    snapshots: tuple[SnapshotMeta, ...]


class SnapshotDetail(msgspec.Struct, frozen=True):
    meta: SnapshotMeta
    is_head: bool
    environment_exists: bool
    comfyui: ComfyUIPin
    plugins: tuple[Plugin, ...]
    packages: tuple[str, ...]


class NodeChange(msgspec.Struct, frozen=True):
    """`before` and `after` are readable states of a pack; None where it is not registered."""

    id: str
    before: str | None
    after: str | None


class StateDifference(msgspec.Struct, frozen=True):
    before: str
    after: str
    comfyui: tuple[str, str] | None
    nodes: tuple[NodeChange, ...]
    packages: Difference


class RollbackResult(msgspec.Struct, frozen=True):
    """`seconds` is the time of the switch itself."""

    target: str
    snapshot_pre: str | None
    snapshot: SnapshotMeta
    difference: StateDifference
    changed: bool
    seconds: float


def list_snapshots(context: Context) -> SnapshotList:
    return SnapshotList(context.snapshots.require_head().snapshot, tuple(context.snapshots.metas()))


def inspect(context: Context, text: str) -> SnapshotDetail:
    snapshot_id = context.snapshots.resolve(text)
    state = context.snapshots.read(snapshot_id)
    return SnapshotDetail(
        meta=context.snapshots.meta(snapshot_id),
        is_head=context.snapshots.require_head().snapshot == snapshot_id,
        environment_exists=context.generations.exists(state.generation),
        comfyui=state.declared.comfyui,
        plugins=state.registry.plugins,
        packages=packages_of(state),
    )


def packages_of(state: State) -> tuple[str, ...]:
    return versions_in(state.uv_lock)


def versions_in(uv_lock: bytes) -> tuple[str, ...]:
    """`name==version` of a lock, without the project itself."""
    versions = locked_versions(uv_lock.decode())
    return tuple(sorted(f"{name}=={version}" for name, version in versions.items() if name != "comfy-env"))


def create(context: Context, reason: str) -> SnapshotMeta:
    """A snapshot of production as it is, with a reason of the person's own."""
    with changing(context):
        line = audit.entry(context.command, "manual", reason=reason)
        made = commit.record(context.truth, line, make=Origin("manual", reason))
        committing.retain(context, frozenset({made}))
        return context.snapshots.meta(made)


def diff(context: Context, before: str, after: str) -> StateDifference:
    first, second = context.snapshots.resolve(before), context.snapshots.resolve(after)
    return compare(first, context.snapshots.read(first), second, context.snapshots.read(second))


def compare(before_id: str, before: State, after_id: str, after: State) -> StateDifference:
    """What lies between two states, in code, packs and packages."""
    commits = (before.declared.comfyui.commit, after.declared.comfyui.commit)
    old = {plugin.id: _describe(plugin) for plugin in before.registry.plugins}
    new = {plugin.id: _describe(plugin) for plugin in after.registry.plugins}
    changes = (NodeChange(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys()))
    return StateDifference(
        before_id,
        after_id,
        commits if commits[0] != commits[1] else None,
        tuple(change for change in changes if change.before != change.after),
        difference(packages_of(before), packages_of(after)),
    )


def _describe(plugin: Plugin) -> str:
    state = "enabled" if plugin.enabled else ("disabled" if plugin.promoted else "not promoted")
    return f"{plugin.commit[:10]} {state}"


def rollback(context: Context, text: str, *, restart: bool, reason: str) -> RollbackResult:
    """Make production what the snapshot says. No network when its environment is still there."""
    with changing(context):
        started = time.monotonic()
        target = context.snapshots.resolve(text)
        head = context.snapshots.require_head()
        wanted, now = context.snapshots.read(target), context.snapshots.read(head.snapshot)
        found = compare(head.snapshot, now, target, wanted)
        if wanted.truth() == now.truth() and wanted.generation == now.generation:
            drifted = tuple(sync.drift(context, now, thorough=False))
            if drifted:
                message = f"production is {target} already, but the disk is not what it says"
                raise GovError(Code.ENVIRONMENT_DAMAGED, message, "gov sync", drifted)
            running = production.running(context)
            if restart and running is not None:
                committing.start_anew(context, running)
            return RollbackResult(
                target, None, context.snapshots.meta(head.snapshot), found, changed=False, seconds=_since(started)
            )
        before = Origin("rollback_pre", f"before going back to {target}")
        origin = Origin("rollback_post", reason or f"back to {target}")
        done = committing.commit_state(context, wanted, origin, before=before, restart=restart)
        pre = done.pre.id if done.pre else None
        return RollbackResult(target, pre, done.meta, found, changed=True, seconds=_since(started))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
