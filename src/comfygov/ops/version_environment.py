"""The environment of a lock in a clone: its own home, Python, wheels, and the sealed generation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from comfygov.envs.generation import Generations
from comfygov.errors import Code, GovError
from comfygov.model import builds as torch_builds
from comfygov.model.names import group_of
from comfygov.model.state import Plugin, Registry
from comfygov.model.version import WHEELS
from comfygov.ops import committing, locking, trying, version_wheels
from comfygov.ops.context import changing, open_home, work_directory
from comfygov.ports import clock, fs, uv
from comfygov.ports.wheelhouse import Wheelhouse
from comfygov.truth import declaration, settings, store
from comfygov.truth.home import Home, cache_root, is_home
from comfygov.truth.settings import read_config
from comfygov.truth.snapshots import Origin, State
from comfygov.versions import builds, portable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.state import Declaration
    from comfygov.model.version import VersionLock
    from comfygov.ops.context import Context
    from comfygov.ops.version_find import Found
    from comfygov.ports.progress import Progress

_WORK = "clone"


def choose_python(found: Found, wanted: str | None) -> uv.Interpreter:
    """The Python to build on: the wanted one, else that of the lock's home, else one of the lock's minor version.

    Raises `not_found`, or `usage` for one that the lock is not for.
    """
    minor = found.lock.python.requires.removeprefix("==").removesuffix(".*")
    path = _python_path(found, wanted, minor)
    python = uv.inspect_interpreter(path)
    if python.minor != minor:
        raise GovError(
            Code.USAGE,
            f"the version is for Python {minor}, and {path} is {python.version}",
            f"name another with --python PATH or --python {minor}",
        )
    fits = any(_holds(marker, python) for marker in found.lock.python.platforms)
    if found.lock.python.platforms and not fits:
        where = " or ".join(found.lock.python.platforms)
        raise GovError(
            Code.USAGE, f"the version is for {where}, not for {python.system}-{python.machine}", "make it for this too"
        )
    return python


def _python_path(found: Found, wanted: str | None, minor: str) -> str:
    if wanted and "/" in wanted:
        path = Path(wanted).expanduser().absolute()
        if not path.is_file():
            raise GovError(Code.NOT_FOUND, f"there is no Python at {path}", "name another with --python PATH")
        return str(path)
    if wanted is None and found.home is not None:
        path = Path(read_config(found.home / "config.toml").python.interpreter)
        if path.is_file():
            return str(path)
    return uv.Uv().find_python(wanted or minor)


def _holds(marker: str, python: uv.Interpreter) -> bool:
    from packaging.markers import InvalidMarker, Marker

    try:
        here = {"sys_platform": python.system, "platform_machine": python.machine}
        return Marker(marker).evaluate({**here, "python_full_version": python.version})
    except InvalidMarker:
        return False


def prepare(
    staging: Path, target: Path, found: Found, python: uv.Interpreter, build: str, command: str, progress: Progress
) -> Context:
    """The directory and the settings of the home to be; `build` is that of torch."""
    declared = declaration.parse(builds.with_build(found.lock.python.pyproject, build))
    if declared.source_builds:
        progress.warn("this lock lets packages be built from source: their authors' code runs here while they are")
    (staging / "state").mkdir(parents=True)
    settings.update_config(staging / "config.toml", _settings(declared, target, python.path))
    context = open_home(str(staging), command, progress)
    context.interpreter = python  # it was asked already
    return context


def _settings(declared: Declaration, target: Path, python: str) -> dict[str, dict[str, Any]]:
    """What later changes of the clone shall be resolved with: the same as where the version was made."""
    wheels = str(target / WHEELS)
    links = [wheels if entry == WHEELS else entry for entry in declared.find_links]
    table: dict[str, Any] = {
        "interpreter": python,
        "constraints": list(declared.constraints),
        "exclude": list(declared.exclude),
        "find_links": links,
        "index_url": declared.index_url,
        "exclude_newer": declared.exclude_newer,
        "platforms": torch_builds.beyond_one(declared.environments),
        "torch_backends": torch_builds.settings(declared.torch_backend, declared.torch_backends),
    }
    found = {"python": {key: value for key, value in table.items() if value}}
    return {**found, "policy": {"source_builds": "allow"}} if declared.source_builds else found


def build(
    context: Context, target: Path, found: Found, torch_build: str, *, offline: bool, wheels_dir: str | None
) -> tuple[State, str]:
    """Build the generation. Returns the first state, and the home whose environment was shared, or ``."""
    lock = found.lock
    chosen = builds.with_build(lock.python.pyproject, torch_build)
    staged, final = context.home.root / WHEELS, target / WHEELS
    if WHEELS in lock.python.indexes:
        staged.mkdir()
        version_wheels.lay(lock, staged, version_wheels.folders(found, wheels_dir))
    house = wheels_dir or (found.path.parent / WHEELS if found.is_bundled else None)
    if house is not None and has_all(lock, Path(house)):
        context.uv = _wheelhouse(lock, Path(house).expanduser().absolute())
    context.uv.offline = offline
    project = work_directory(context, _WORK)
    pyproject, uv_lock = (text.encode() for text in portable.placed(chosen, lock.python.uv_lock, final))
    generation = locking.identify(context, project, pyproject, uv_lock, {str(final): staged})
    here = (text.encode() for text in portable.placed(chosen, lock.python.uv_lock, staged))
    for name, data in zip(("pyproject.toml", "uv.lock"), here, strict=True):
        fs.write_atomic(project / name, data)
    shared = _build(context, project, generation, found)
    fs.remove_tree(project)
    return State(pyproject, uv_lock, registry_of(lock), lock.expects, generation), shared


def commit_first(context: Context, lock: VersionLock, state: State) -> None:
    """Make `state` the first one of the home, whose code is in place."""
    if not lock.expects.core_classes:  # made without a home: nobody has seen it run yet
        state = trying.with_baseline(context, state, _WORK, None)
    with changing(context):
        committing.commit_state(context, state, Origin("init", f"clone of version {lock.version_name}"))


def _wheelhouse(lock: VersionLock, folder: Path) -> Wheelhouse:
    """uv that takes every package of the lock from one folder, by its sums."""
    hashes: dict[str, tuple[str, ...]] = {}
    for package in lock.python.packages:
        hashes[package.name] = (*hashes.get(package.name, ()), *package.hashes.values())
    return Wheelhouse(folder, hashes)


def _build(context: Context, project: Path, generation: str, found: Found) -> str:
    """On hardlinks to the same environment of another home where there is one, else from uv's cache."""
    target = fs.beside(context.generations.path(generation), "staging")
    python = context.interpreter
    root, source, base = next(_same_elsewhere(context, generation, found), (None, context.generations, None))
    try:
        source.begin(target, python, base)
        context.generations.complete(project, target, python)
        context.generations.seal(target, generation, python, in_unnamed_home=True)
    except BaseException:
        fs.remove_tree(target)
        raise
    return str(root or "")


def _generations_of(context: Context, root: Path) -> Generations:
    """The environments of another home, with what that home knows of their condition; nothing is written there."""
    memory = context.home.state / "environments-elsewhere.json"
    known = root / "state" / "environments.json"
    if known.is_file():
        fs.write_atomic(memory, known.read_bytes())
    return Generations(Home(root, read_config(root / "config.toml")).venvs, memory, lambda: context.uv)


def _same_elsewhere(context: Context, generation: str, found: Found) -> Iterator[tuple[Path, Generations, str]]:
    """(home, its environments, generation) on this machine that hold the very environment, on the same Python, and
    are sound."""
    for root in _homes(found):
        try:
            generations = _generations_of(context, root)
            name = generation if generations.exists(generation) else _generation_of_lock(root, found)
            if name and generations.is_sound(name) and generations.seal_of(name).python == context.interpreter.path:
                yield root, generations, name
        except (GovError, OSError):
            continue  # another home's trouble is none of this clone's


def _homes(found: Found) -> list[Path]:
    from comfygov.ops.gc_cache import KnownHome

    records = sorted((cache_root() / "homes").glob("*.json"))
    known = [Path(store.load(record, KnownHome).path) for record in records]
    return list(dict.fromkeys([*([found.home] if found.home else []), *(root for root in known if is_home(root))]))


def _generation_of_lock(root: Path, found: Found) -> str:
    """The generation of a home's head, when its lock is the same but for the folder of its wheels."""
    from comfygov.truth.snapshots import Snapshots

    snapshots = Snapshots(Home(root, read_config(root / "config.toml")))
    state = snapshots.read(snapshots.require_head().snapshot)
    same = portable.portable(state.pyproject.decode(), state.uv_lock.decode())
    is_same = same.uv_lock == found.lock.python.uv_lock and all(
        version_wheels.is_right(found.lock, name, path) for name, path in same.local.items()
    )
    return state.generation if is_same else ""


def has_all(lock: VersionLock, folder: Path) -> bool:
    """Whether a folder has a file of every package of the lock; what it is, uv judges by the sums."""
    names = {path.name for path in folder.expanduser().absolute().glob("*")}
    return all(names & set(map(unquote, package.hashes)) for package in lock.python.packages)  # `%2B` in addresses


def registry_of(lock: VersionLock) -> Registry:
    now = clock.now()
    plugins = (
        Plugin(
            id=node.name,
            source=node.repo,
            commit=node.commit,
            tree=node.tree,
            group=group_of(node.name),
            ref=node.ref,
            managed_deps=node.requirements,
            enabled=node.enabled,
            promoted=node.promoted,
            added_at=now,
        )
        for node in lock.custom_nodes
    )
    return Registry(tuple(sorted(plugins, key=lambda plugin: plugin.id)))
