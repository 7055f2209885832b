"""`gov tx run`: plan, lock, candidate, boot, gates. Production is only read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.tx import Logs, Transaction
from comfygov.ops.context import Context, changing, discard_work
from comfygov.ops.tx_trial import Trial, execute
from comfygov.ports import clock, clones, faults, identity
from comfygov.ports.git import recorded_source
from comfygov.ports.progress import Stages
from comfygov.resolve import requirements

if TYPE_CHECKING:
    from comfygov.model.state import Plugin
    from comfygov.resolve.requirements import Declared
    from comfygov.truth.snapshots import State


class TxRequest(msgspec.Struct, frozen=True):
    """Which pack to try; `ref` moves it to another commit, `timeout_seconds` is for the boot."""

    node_id: str
    ref: str | None = None
    timeout_seconds: float | None = None


def run(context: Context, request: TxRequest) -> Transaction:
    """Try a pack; the record that comes back is `completed`, `failed` or `needs_resolution`."""
    head = context.snapshots.require_head()
    base = context.snapshots.read(head.snapshot)
    plugin = base.registry.get(request.node_id)
    if plugin is None:
        raise unknown_node(context, request.node_id)
    if not context.generations.exists(base.generation):
        raise GovError(Code.ENVIRONMENT_DAMAGED, "production's environment is not there to compare with", "gov sync")
    stages = Stages(context.progress)
    with stages.stage("plan"):
        plugin = _at_ref(context, plugin, request.ref)
        declared = read_declared(context, plugin)
    fresh = _record(context, "", head.snapshot, base, plugin, declared)
    fresh = msgspec.structs.replace(fresh, timeout_seconds=request.timeout_seconds)
    tx = context.transactions.create(fresh, lambda txid: _logs(context, txid))
    faults.point("trial.opened")
    return execute(Trial(context, stages, base, plugin, declared, tx, request.timeout_seconds))


def rerun(context: Context, tx: Transaction) -> Transaction:
    """Run the trial of `tx` again, under its name, on what production is now."""
    head = context.snapshots.require_head()
    base = context.snapshots.read(head.snapshot)
    known = base.registry.get(tx.node_id)
    if known is None:
        raise unknown_node(context, tx.node_id)
    stages = Stages(context.progress)
    plugin = _at_ref(context, msgspec.structs.replace(known, commit=tx.source_commit, ref=tx.source_ref), None)
    declared = read_declared(context, plugin)
    with changing(context):
        if context.transactions.load(tx.txid).status != tx.status:
            raise GovError(Code.BUSY, f"another command took {tx.txid}", f"gov tx inspect {tx.txid}")
        discard_work(context, tx.txid)
        again = _record(context, tx.txid, head.snapshot, base, plugin, declared)
        again = msgspec.structs.replace(again, timeout_seconds=tx.timeout_seconds)
        fresh = context.transactions.save(again)
    return execute(Trial(context, stages, base, plugin, declared, fresh, tx.timeout_seconds))


def unknown_node(context: Context, node_id: str) -> GovError:
    import difflib

    known = [plugin.id for plugin in context.head_state().registry.plugins]
    near = difflib.get_close_matches(node_id, known, 1, 0.5)
    hint = f"did you mean `{near[0]}`?" if near else "gov node list (gov node add SOURCE registers a pack)"
    return GovError(Code.NOT_FOUND, f"there is no node pack `{node_id}` here", hint)


def _at_ref(context: Context, plugin: Plugin, ref: str | None) -> Plugin:
    source = recorded_source(plugin.source)
    if ref is None:
        clones.ensure_cached(context.git, source, plugin.commit)
        return plugin
    repository = context.git.fetch(source, ref)
    commit = context.git.resolve(source, ref)
    clones.ensure_cached(context.git, source, commit)
    tree = context.git.tree_of(repository, commit)
    return msgspec.structs.replace(plugin, ref=ref, commit=commit, tree=tree)


def read_declared(context: Context, plugin: Plugin) -> Declared:
    """What the pack asks for at the commit that is to be tried."""
    repository = context.git.cache_of(recorded_source(plugin.source))
    return requirements.read_declared(lambda path: context.git.show(repository, plugin.commit, path))


def _record(context: Context, txid: str, base_id: str, base: State, plugin: Plugin, declared: Declared) -> Transaction:
    return Transaction(
        txid=txid,
        node_id=plugin.id,
        kind="node_update" if plugin.promoted else "node_first_run",
        status="running",
        started_at=clock.now(),
        base_snapshot=base_id,
        source_commit=plugin.commit,
        source_ref=plugin.ref,
        pre_freeze=context.generations.seal_of(base.generation).packages,
        declared=tuple(declared.requirements),
        rejected=tuple(declared.rejected),
        logs=_logs(context, txid),
        owner_pid=os.getpid(),
        owner_started=identity.started_at(os.getpid()) or 0.0,
    )


def _logs(context: Context, txid: str) -> Logs:
    start = context.home.relative(context.home.logs / txid)
    return Logs(f"{start}.stdout.log", f"{start}.stderr.log")
