"""`gov node add|list|show|remove|enable|disable`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs.record import difference
from comfygov.errors import Code, GovError
from comfygov.model.names import NODE_ID_RULE, group_of, id_from_source, is_node_id
from comfygov.model.state import PackHealth, Plugin, SnapshotKind, SnapshotMeta
from comfygov.model.tx import Difference, Rejected, TxSummary
from comfygov.ops import change, committing, locking, planning, settling
from comfygov.ops.context import changing, work_directory
from comfygov.ports import clock, clones, faults, fs, git_apart, node_registry
from comfygov.ports.git import parse_source, recorded_source
from comfygov.ports.progress import Stages
from comfygov.ports.source import REGISTRY
from comfygov.resolve import alternatives, requirements
from comfygov.resolve.torch_family import locked_versions
from comfygov.truth import rescue
from comfygov.truth.snapshots import Origin

if TYPE_CHECKING:
    from comfygov.model.state import Baseline, Declaration, Registry
    from comfygov.ops.context import Context
    from comfygov.ports.git import Git, Source
    from comfygov.resolve.requirements import Declared
    from comfygov.truth.snapshots import State


class AddRequest(msgspec.Struct, frozen=True):
    source: str
    ref: str | None = None
    node_id: str | None = None


class AddResult(msgspec.Struct, frozen=True):
    """`declared` is what the pack asks for; lines that were not taken are in `rejected` and `malformed`."""

    plugin: Plugin
    snapshot: str
    declared: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    malformed: tuple[Rejected, ...]
    path: str


class RemoveResult(msgspec.Struct, frozen=True):
    """`rescued` is where the user's own files of a purged folder went; empty when there were none."""

    node_id: str
    snapshot_pre: str
    snapshot: SnapshotMeta
    packages: Difference
    purged: bool
    rescued: str
    stage_seconds: dict[str, float]


class NodeList(msgspec.Struct, frozen=True):
    plugins: tuple[Plugin, ...]
    unmanaged: tuple[str, ...]


class NodeDetail(msgspec.Struct, frozen=True):
    plugin: Plugin
    path: str
    checkout_commit: str | None
    edited: tuple[str, ...]
    health: PackHealth | None
    transactions: tuple[TxSummary, ...]


class ToggleResult(msgspec.Struct, frozen=True):
    plugin: Plugin
    snapshot: str
    changed: bool


def add(context: Context, request: AddRequest) -> AddResult:
    """Register a pack and check its code out; production does not load it before its promote."""
    source, ref = _named(request)
    request = msgspec.structs.replace(request, ref=ref)
    node_id = id_from_source(source.public) if request.node_id is None else request.node_id
    if not is_node_id(node_id):
        raise GovError(Code.BAD_ID, f"`{node_id}` cannot be the id of a pack: {NODE_ID_RULE}", "give another with --id")
    _refuse_known(context.head_state().registry, node_id)
    with Stages(context.progress).stage("fetch"):
        repository = _fetch(context, source, request)
        commit = context.git.resolve(source, request.ref)
        clones.ensure_cached(context.git, source, commit)
    _refuse_other_repository(context, repository, commit, node_id)
    _refuse_foreign_folder(context, repository, node_id)
    plugin = Plugin(
        id=node_id,
        source=source.public,
        ref=request.ref,
        commit=commit,
        tree=context.git.tree_of(repository, commit),
        group=group_of(node_id),
        added_at=clock.now(),
        archive=node_registry.sum_of(context.git, source, commit),
    )
    declared = planning.read_declared(context, plugin)
    plugin = msgspec.structs.replace(plugin, managed_deps=tuple(declared.requirements))
    return _register(context, plugin, declared)


def _named(request: AddRequest) -> tuple[Source, str | None]:
    """A git URL or a directory, else an id of the node registry, with its version as the ref."""
    named = node_registry.parse(request.source)
    if named is None or (Path.cwd() / request.source).exists():
        return parse_source(request.source, Path.cwd()), request.ref
    return named.source, request.ref or named.version


def _fetch(context: Context, source: Source, request: AddRequest) -> Path:
    try:
        return context.git.fetch(source, request.ref)
    except GovError as error:
        if source.public.startswith(REGISTRY) and not request.source.startswith(REGISTRY):
            problem = f"`{request.source}` is neither a git URL nor a directory, and as an id: {error.message}"
            code = Code.NETWORK if error.code is Code.NETWORK else Code.BAD_SOURCE
            raise GovError(code, problem, "check the spelling, or give the git URL") from error
        raise


def _register(context: Context, plugin: Plugin, declared: Declared) -> AddResult:
    with changing(context):
        state = context.head_state()
        _refuse_known(state.registry, plugin.id)
        proposed = dataclasses.replace(state, registry=state.registry.with_plugin(plugin))
        meta = committing.commit_state(context, proposed, Origin("node_add", node_id=plugin.id)).meta
    return AddResult(
        plugin=plugin,
        snapshot=meta.id,
        declared=tuple(declared.requirements),
        rejected=tuple(declared.rejected),
        malformed=tuple(declared.malformed),
        path=str(context.home.custom_nodes / plugin.entry),
    )


def _refuse_known(registry: Registry, node_id: str) -> None:
    group = group_of(node_id)
    if node_id.lower() in (change.COMFYUI.lower(), change.PACKAGES):
        raise GovError(
            Code.BAD_ID, f"`{node_id}` is what records call something else than a pack", "give another with --id"
        )
    for plugin in registry.plugins:
        if plugin.id == node_id:
            raise GovError(
                Code.ALREADY_EXISTS,
                f"`{node_id}` is registered already",
                f"gov node show {node_id}, or gov tx run {node_id} --ref REF",
            )
        if plugin.group == group or plugin.id.lower() == node_id.lower():
            raise GovError(
                Code.ALREADY_EXISTS,
                f"`{node_id}` would share its names with `{plugin.id}`",
                "give another id with --id",
            )


def _refuse_other_repository(context: Context, repository: Path, commit: str, node_id: str) -> None:
    names = context.git.list_tree(repository, commit)
    if "__init__.py" in names:
        return
    if "main.py" in names and "nodes.py" in names:
        raise GovError(
            Code.NOT_A_PACK,
            f"`{node_id}` is ComfyUI itself, not a node pack",
            "gov init --repo takes ComfyUI",
        )
    raise GovError(
        Code.NOT_A_PACK,
        f"`{node_id}` is no node pack: its top folder has no __init__.py",
        "check the address; a single .py file is not taken as a pack yet",
    )


def _refuse_foreign_folder(context: Context, repository: Path, node_id: str) -> None:
    """A repository of the user's that happens to have the name is not turned into this pack."""
    folder = context.home.custom_nodes / node_id
    at = context.git.head(folder)
    if at is not None and not context.git.contains(repository, at):
        raise GovError(
            Code.ALREADY_EXISTS,
            f"{folder} is another repository, or has commits of your own",
            "give another id with --id, or move that folder aside",
        )


def list_nodes(context: Context) -> NodeList:
    from comfygov.ops import sync

    state = context.head_state()
    return NodeList(state.registry.plugins, tuple(sync.unmanaged(context, state)))


def show(context: Context, node_id: str) -> NodeDetail:
    state = context.head_state()
    plugin = _registered(context, state, node_id)
    path = context.home.custom_nodes / plugin.entry
    at = context.git.head(path)
    return NodeDetail(
        plugin=plugin,
        path=str(path),
        checkout_commit=at,
        edited=tuple(context.git.edited(path)) if at else (),
        health=state.baseline.pack(plugin.id),
        transactions=tuple(tx for tx in context.transactions.summaries() if tx.node_id == plugin.id),
    )


def _registered(context: Context, state: State, node_id: str) -> Plugin:
    plugin = state.registry.get(node_id)
    if plugin is None:
        raise planning.unknown_node(context, node_id)
    return plugin


def toggle(context: Context, node_id: str, *, enable: bool) -> ToggleResult:
    """Load or do not load a promoted pack; its packages stay in the environment."""
    with changing(context):
        state = context.head_state()
        plugin = _registered(context, state, node_id)
        if enable and not plugin.promoted:
            raise GovError(
                Code.WRONG_STATE,
                f"`{node_id}` was never promoted, so nobody knows that it works",
                f"gov tx run {node_id}",
            )
        if plugin.enabled == enable:
            return ToggleResult(plugin, context.snapshots.require_head().snapshot, changed=False)
        changed = msgspec.structs.replace(plugin, enabled=enable)
        proposed = dataclasses.replace(state, registry=state.registry.with_plugin(changed))
        kind: SnapshotKind = "node_enable" if enable else "node_disable"
        meta = committing.commit_state(context, proposed, Origin(kind, node_id=node_id)).meta
        return ToggleResult(changed, meta.id, changed=True)


def remove(context: Context, node_id: str, *, purge_code: bool, restart: bool) -> RemoveResult:
    """Take a pack and what only it needed out of production, in one commit."""
    stages = Stages(context.progress)
    with changing(context):
        state = context.head_state()
        plugin = _registered(context, state, node_id)
        proposed = _without(context, state, plugin, stages)
        before = Origin("remove_pre", f"before removing {node_id}", node_id=node_id)
        after = Origin("remove_post", node_id=node_id)
        with stages.stage("commit"):
            touched = frozenset({node_id}) if purge_code else frozenset()
            done = committing.commit_state(context, proposed, after, before=before, restart=restart, touched=touched)
        faults.point("purge.begun")
        rescued = _purge_after_commit(context, plugin) if purge_code else ""
        packages = [context.generations.seal_of(name).packages for name in (state.generation, done.meta.generation)]
        return RemoveResult(
            node_id=node_id,
            snapshot_pre=done.pre.id if done.pre else "",
            snapshot=done.meta,
            packages=difference(*packages),
            purged=purge_code,
            rescued=rescued,
            stage_seconds=stages.seconds,
        )


def _without(context: Context, state: State, plugin: Plugin, stages: Stages) -> State:
    """`state` without the pack: no group of its own, a fresh lock where it had one, and its environment."""
    registry = state.registry.without(plugin.id)
    baseline = _baseline_without(state.baseline, plugin.id)
    groups = dict(state.declared.groups)
    if groups.pop(plugin.group, None) is None:
        return dataclasses.replace(state, registry=registry, baseline=baseline)
    work = work_directory(context, f"remove-{plugin.id}")
    try:
        with stages.stage("lock"):
            declared = msgspec.structs.replace(state.declared, groups=groups)
            declared = alternatives.undone(declared, context.config.python.exclude)
            settled = _settled_without(context, work, declared, state, plugin.id)
        generation = locking.identify(context, work, settled.pyproject, settled.uv_lock)
        with stages.stage("environment"):
            context.generations.build(work, generation, context.interpreter, state.generation)
    finally:
        fs.remove_tree(work)
    without = dataclasses.replace(state, registry=registry, baseline=baseline)
    return without.relocked(settled.pyproject, settled.uv_lock, generation)


def _settled_without(
    context: Context, work: Path, declared: Declaration, state: State, node_id: str
) -> settling.Settled:
    """The lock without the pack. Pins and forced versions that were there for it go too, unless what is left would
    move then: a removal only takes away, and nobody has tried anything else."""
    owned = change.without_owner(declared.resolutions, node_id)
    wishes = settling.Wishes()
    if owned != declared.resolutions:
        bare = msgspec.structs.replace(declared, resolutions=owned)
        try:
            settled = settling.settle(context, work, bare, state.uv_lock, wishes)
        except locking.NoSolution:
            settled = None
        if settled is not None and not _moves(state, settled):
            return settled
        kept = [
            entry.requirement for entry in declared.resolutions if entry not in owned and entry.owners == (node_id,)
        ]
        for requirement in kept:
            name = requirements.package_of(requirement)
            context.progress.warn(
                f"{requirement} was there for {node_id} and stays: without it other versions would move, untried; "
                f"`gov tx run --drop {name}` tries that"
            )
        owned = change.without_owner(declared.resolutions, node_id, keep=True)
    declared = msgspec.structs.replace(declared, resolutions=owned)
    return settling.settle(context, work, declared, state.uv_lock, wishes)


def _moves(state: State, settled: settling.Settled) -> bool:
    before, after = locked_versions(state.uv_lock.decode()), settled.versions
    return any(before.get(name, version) != version for name, version in after.items())


def _baseline_without(baseline: Baseline, name: str) -> Baseline:
    return msgspec.structs.replace(baseline, packs=tuple(pack for pack in baseline.packs if pack.name != name))


def _purge_after_commit(context: Context, plugin: Plugin) -> str:
    """The removal is committed: a folder that cannot be deleted is a warning, not a failure of it."""
    try:
        return _purge(context, plugin)
    except (OSError, GovError) as error:
        folder = context.home.custom_nodes / plugin.entry
        context.progress.warn(f"{plugin.id} is removed, but {folder} could not be deleted: {error}")
        return ""


def _purge(context: Context, plugin: Plugin) -> str:
    """Delete the pack's folder; one that holds anything of the user's is kept aside whole, and where is said."""
    folder = context.home.custom_nodes / plugin.entry
    if folder.is_symlink() or not folder.exists():
        return ""
    if folder.is_dir() and not _holds_own_work(context.git, folder, recorded_source(plugin.source)):
        git_apart.leave(context.git, folder)
        fs.remove_tree(folder)
        return ""
    git_apart.leave(context.git, folder)
    kept = rescue.place(context.home, f"-{plugin.id}")
    fs.move_tree(folder, kept)
    return context.home.relative(kept)


def _holds_own_work(git: Git, folder: Path, source: Source) -> bool:
    """True for untracked or edited files, stashes, and commits that only this folder has."""
    commit = git.head(folder)
    if commit is None or git.has_stash(folder) or git.own_commits(folder, git.cache_of(source)):
        return True
    own = [name for name in git.untracked(folder, ignored=True) if "__pycache__" not in Path(name).parts]
    if own or git.edited(folder):
        return True
    inner = [(folder / path, clones.submodule_source(source, url)) for path, url, _ in git.submodules(folder, commit)]
    return any(_holds_own_work(git, path, inside) for path, inside in inner if path.is_dir() and any(path.iterdir()))
