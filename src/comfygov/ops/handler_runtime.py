"""What a handler starts from: a runtime file, or a version that is cloned into the cache when it is not there yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.delivery import RUNTIME_SCHEMA, Runtime
from comfygov.ports import fs, lock
from comfygov.truth.home import cache_root
from comfygov.versions import lockfile

if TYPE_CHECKING:
    from comfygov.model.version import VersionLock
    from comfygov.ops.version_find import Found
    from comfygov.ports.progress import Progress

_CLONE_WAIT_SECONDS = 1800.0


class VersionChoice(msgspec.Struct, frozen=True):
    """One of `runtime` (a file), `lock` (a file) and `version` (a name in the home `home`)."""

    runtime: str | None = None
    lock: str | None = None
    version: str | None = None
    home: str | None = None
    offline: bool = False
    skip_models: bool = False
    cpu: bool = False


def choose(choice: VersionChoice, command: str, progress: Progress) -> tuple[Runtime, VersionLock | None]:
    """The runtime, and the lock that it belongs to where that is there. Raises GovError."""
    if choice.runtime is not None:
        if choice.lock or choice.version:
            raise GovError(Code.USAGE, "--runtime names the version already", "leave --lock and --version out")
        runtime = read(Path(choice.runtime).expanduser().absolute())
        locked = _lock_of(runtime)
    else:
        runtime, locked = _cloned(choice, command, progress)
    if choice.cpu and "--cpu" not in runtime.extra_args:
        runtime = msgspec.structs.replace(runtime, extra_args=(*runtime.extra_args, "--cpu"))
    return runtime, locked


def read(path: Path) -> Runtime:
    """Raises `not_found`, `home_newer`, `bad_config`."""
    try:
        runtime = msgspec.json.decode(path.read_bytes(), type=Runtime)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise GovError(Code.NOT_FOUND, f"there is no runtime file {path}", "check --runtime") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GovError(Code.BAD_CONFIG, f"{path} is no runtime file: {error}", "docs/handler.md shows one") from error
    if runtime.schema_version > RUNTIME_SCHEMA:
        raise GovError(Code.HOME_NEWER, f"{path} was written by a newer comfygov", "update comfygov")
    refuse_absent(runtime, str(path))
    return runtime


def refuse_absent(runtime: Runtime, where: str) -> None:
    """Raises `bad_config` for paths that do not lead to a ComfyUI."""
    named = [("python", Path(runtime.python)), ("comfyui", Path(runtime.comfyui, "main.py"))]
    for name, path in (*named, *(("model_paths_files", Path(file)) for file in runtime.model_paths_files)):
        if not path.is_absolute() or not path.is_file():
            raise GovError(Code.BAD_CONFIG, f"{where}: `{name}`: there is no {path}", "name what is there")
    for name in runtime.packs:
        if not Path(runtime.comfyui, "custom_nodes", name).exists():
            raise GovError(Code.BAD_CONFIG, f"{where}: there is no pack {name} in custom_nodes", "check `packs`")


def _lock_of(runtime: Runtime) -> VersionLock | None:
    if not runtime.lock:
        return None
    locked = lockfile.read(Path(runtime.lock))
    if runtime.digest and locked.digest != runtime.digest:
        message = f"{runtime.lock} has the digest {locked.digest}, the runtime file names {runtime.digest}"
        raise GovError(Code.DRIFT, message, "name the lock that the runtime was made from")
    return locked


def _cloned(choice: VersionChoice, command: str, progress: Progress) -> tuple[Runtime, VersionLock]:
    from comfygov.ops.version_find import find

    if choice.lock is None and choice.version is None:
        raise GovError(Code.USAGE, "which version?", "--version NAME, --lock FILE, or --runtime FILE")
    found = find(choice.version, choice.lock, choice.home)
    try:
        target = cache_root() / "versions" / found.lock.digest.removeprefix("sha256:")[:32]
        with lock.exclusive(target.with_suffix(".lock"), command, _CLONE_WAIT_SECONDS):
            if not (target / "config.toml").is_file():
                _clone(choice, found, target, command, progress)
            kept = target.with_suffix(".lock.json")
            fs.write_if_changed(kept, lockfile.encode(found.lock))
    finally:
        if found.is_bundled:
            fs.remove_tree(found.path.parent)
    return _runtime_of(target, kept, found.lock, command, progress), found.lock


def _clone(choice: VersionChoice, found: Found, target: Path, command: str, progress: Progress) -> None:
    from comfygov.ops.version_clone import CloneRequest, clone

    progress.note(f"version {found.lock.version_name} is made in {target} (once)")
    path = choice.lock or str(found.path)
    made = clone(
        CloneRequest(str(target), lock=path, skip_models=choice.skip_models, offline=choice.offline), command, progress
    )
    if not made.identical:
        fs.remove_tree(target)
        lines = tuple(f"{one.kind} {one.name}: {one.before} -> {one.after}" for one in made.differences)
        raise GovError(Code.DRIFT, f"a clone of version {made.version} is not what the lock says", "", lines)


def _runtime_of(target: Path, kept: Path, locked: VersionLock, command: str, progress: Progress) -> Runtime:
    from comfygov.ops.context import changing, open_home
    from comfygov.ops.production import device_arguments
    from comfygov.trial.command import shipped_packs
    from comfygov.truth.commit import write_model_paths

    context = open_home(str(target), command, progress)
    with changing(context):  # finishes what a killed command left
        write_model_paths(context.home)
    state = context.head_state()
    packs = (*shipped_packs(context.home.comfyui), *(plugin.id for plugin in state.registry.enabled()))
    runtime = Runtime(
        version=locked.version_name,
        digest=locked.digest,
        python=str(context.generations.python(state.generation)),
        comfyui=str(context.home.comfyui),
        packs=packs,
        model_paths_files=(str(context.home.model_paths_file),),
        lock=str(kept),
        extra_args=(*context.config.run.extra_args, *device_arguments(context)),
    )
    refuse_absent(runtime, str(target))
    return runtime
