"""From what a home is now to a lock: looked at on disk, not only read from records."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.version import (
    VERSION_SCHEMA,
    WHEELS,
    LockedComfyUI,
    LockedModel,
    LockedNode,
    LockedPython,
    PatchedFile,
    VersionLock,
)
from comfygov.ops import sync
from comfygov.ports import clones, fs
from comfygov.ports.git import recorded_source
from comfygov.truth.home import cache_root
from comfygov.versions import builds, judging, lockfile, overlay, portable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.state import Baseline, Plugin
    from comfygov.ops.context import Context
    from comfygov.ops.models_place import Place
    from comfygov.ports.uv import Interpreter
    from comfygov.truth.snapshots import State

_HASH_CHUNK_BYTES = 1 << 20


class VersionFinding(msgspec.Struct, frozen=True):
    """Something of a home that is not in the version, or not as one would think."""

    kind: str
    subject: str
    problem: str


@dataclass(frozen=True)
class Captured:
    """`local` are the wheels that travel beside the lock, by file name."""

    lock: VersionLock
    local: dict[str, Path]
    findings: tuple[VersionFinding, ...] = ()


def capture(context: Context, name: str) -> Captured:
    """The lock of what production is. Raises `drift` when the disk is not what head says."""
    state = context.head_state()
    refuse_drift(context, state)
    project = with_own_wheels(context, portable.portable(state.pyproject.decode(), state.uv_lock.decode()))
    comfyui, nodes = _comfyui(context, state), tuple(_nodes(context, state))
    models, findings = locked_models(context)
    lock = lockfile.sealed(
        VersionLock(
            schema_version=VERSION_SCHEMA,
            version_name=name,
            digest="",
            comfyui=comfyui,
            python=locked_python(project, context.interpreter),
            custom_nodes=nodes,
            models=models,
            expects=_without_times(state.baseline),
        )
    )
    return Captured(lock, project.local, (*_said(context, state, lock), *findings))


def refuse_drift(context: Context, state: State) -> None:
    found = sync.drift(context, state, thorough=False)
    if found:
        problem = "the disk is not what head says, and a version would be of neither"
        raise GovError(Code.DRIFT, problem, "gov sync, then the same command again", tuple(found[:20]))


def with_own_wheels(context: Context, project: portable.Project) -> portable.Project:
    """A clone keeps its wheels in the home, which may have moved, or be about to."""
    own = context.home.root.absolute() / WHEELS
    local = {name: path if path.is_file() else own / name for name, path in project.local.items()}
    return dataclasses.replace(project, local=local)


def _comfyui(context: Context, state: State) -> LockedComfyUI:
    pin, tree = state.declared.comfyui, context.home.comfyui
    edits = overlay.taken(context.git, tree, pin.commit, of_comfyui=True)
    return LockedComfyUI(pin.repo, pin.commit, context.git.tree_of(tree, pin.commit), pin.ref, edits)


def _nodes(context: Context, state: State) -> Iterator[LockedNode]:
    for plugin in state.registry.plugins:
        checkout = context.home.custom_nodes / plugin.entry
        yield LockedNode(
            name=plugin.id,
            repo=plugin.source,
            commit=plugin.commit,
            tree=context.git.tree_of(checkout, plugin.commit),
            ref=plugin.ref,
            enabled=plugin.enabled,
            promoted=plugin.promoted,
            requirements=plugin.managed_deps,
            patch=overlay.taken(context.git, checkout, plugin.commit),
            content=_content(context, plugin),
        )


def _content(context: Context, plugin: Plugin) -> tuple[PatchedFile, ...]:
    if not plugin.source.startswith(judging.CONTENT):
        return ()
    source, work = recorded_source(plugin.source), fs.beside(cache_root() / "git" / "content", "read")
    fs.remove_tree(work)
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        clones.place(context.git, source, plugin.commit, work, shared=True)
        return overlay.all_files(work)
    finally:
        fs.remove_tree(work)


def locked_python(project: portable.Project, python: Interpreter) -> LockedPython:
    """The part of a lock that is about packages, with the sums of wheels that no index has."""
    from comfygov.ports import toml

    document = toml.loads(project.pyproject)
    several = builds.several(project.pyproject)
    pyproject = builds.with_build(project.pyproject, "")
    sums = {name: f"sha256:{file_sum(path)}" for name, path in project.local.items()}
    return LockedPython(
        version=python.version,
        requires=document["project"]["requires-python"],
        platform=f"{python.system}-{python.machine}",
        platforms=tuple(document["tool"]["uv"].get("environments", ())),
        indexes=portable.indexes(pyproject),
        packages=portable.locked_packages(project.uv_lock, sums),
        pyproject=pyproject,
        uv_lock=project.uv_lock,
        torch_backends=several,
        torch_backend=builds.chosen(project.pyproject) if several else "",
    )


def file_sum(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError as error:
        message = f"the wheel {path} is not there any more, and no index has it"
        raise GovError(Code.NOT_FOUND, message, "put it back, or name its folder in [python] find_links") from error
    return digest.hexdigest()


def _without_times(baseline: Baseline) -> Baseline:
    packs = tuple(msgspec.structs.replace(pack, seconds=0.0) for pack in baseline.packs)
    return msgspec.structs.replace(baseline, boot_seconds=0.0, packs=packs)


def locked_models(context: Context) -> tuple[tuple[LockedModel, ...], tuple[VersionFinding, ...]]:
    """The entries of the spec; files that are there must be what it says. A size is in the version when it is in the
    spec: whether the file is there may make no difference. Raises `drift`, `wrong_state`."""
    from comfygov.ops.models_place import Asked, open_place

    place = open_place(Asked(home=str(context.home.root)), context.command, context.progress)
    return locked_models_in(place)


def locked_models_in(place: Place) -> tuple[tuple[LockedModel, ...], tuple[VersionFinding, ...]]:
    """The same for any models folder and spec."""
    if not place.spec_path.is_file():
        return (), tuple(_unlisted(place.folders.models_dir, set()))
    try:
        found = place.look().look(place.entries())
    finally:
        place.memory.save()
    locked, findings = [], []
    for one in found:
        entry = one.entry
        if one.facts is not None and entry.checksum is not None and not one.is_right:
            problem = f"the model {one.path} is not what {place.spec_path} says"
            raise GovError(Code.DRIFT, problem, "gov models verify")
        checksum = entry.checksum or one.checksum
        if checksum is None:
            problem = f"the model {entry.target_path} has no checksum in the spec and is not there"
            raise GovError(Code.WRONG_STATE, problem, "gov models verify --record")
        if one.facts is None and not entry.sources:
            findings.append(VersionFinding("model", entry.target_path, "it is not there and the spec has no source"))
        locked.append(LockedModel(entry.name, entry.target_path, f"sha256:{checksum}", entry.size, entry.sources))
    listed = {one.entry.target_path for one in found}
    locked.sort(key=lambda model: model.target_path)
    return tuple(locked), (*findings, *_unlisted(place.folders.models_dir, listed))


def _unlisted(models_dir: Path, listed: set[str]) -> Iterator[VersionFinding]:
    from comfygov.models.folders import model_files

    files = (path.relative_to(models_dir).as_posix() for path in model_files(models_dir)) if models_dir.is_dir() else ()
    for name in files:
        if name not in listed:
            yield VersionFinding("model", name, "it is not in the spec, so not in the version (gov models scan)")


def _said(context: Context, state: State, lock: VersionLock) -> Iterator[VersionFinding]:
    for name in sync.unmanaged(context, state):
        yield VersionFinding("node", name, "comfygov does not know it, so it is not in the version (gov node add)")
    yield from said_of(lock)


def said_of(lock: VersionLock) -> Iterator[VersionFinding]:
    """What of a lock is not as one would think: local repositories, edits, wheels beside it."""
    for code_name, repo in (("ComfyUI", lock.comfyui.repo), *((node.name, node.repo) for node in lock.custom_nodes)):
        if repo.startswith(("/", "file:")):
            yield VersionFinding(
                "code", code_name, f"its repository {repo} is on this machine: elsewhere, use a bundle"
            )
    edits = [("ComfyUI", lock.comfyui.patch), *((node.name, node.patch) for node in lock.custom_nodes)]
    for name, patch in edits:
        if patch:
            paths = ", ".join(file.path for file in patch[:5])
            yield VersionFinding("patch", name, f"{len(patch)} edited or new files are in the version: {paths}")
    for package in lock.python.packages:
        if package.source == WHEELS:
            yield VersionFinding("wheel", package.name, "no index has it: its wheel travels beside the lock")
