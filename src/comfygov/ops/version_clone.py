"""`gov version clone`: a new home with code, environment and models as a lock says, and the proof that it is so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.version import VersionDifference
from comfygov.ops import version_bundle, version_code, version_environment, version_models
from comfygov.ops.context import changing, open_home
from comfygov.ops.version_capture import capture
from comfygov.ops.version_find import Found, find
from comfygov.ports import faults, fs, identity
from comfygov.ports.progress import Stages
from comfygov.truth.commit import model_paths_text
from comfygov.truth.home import is_home, refuse_source_checkout
from comfygov.versions import builds, comparing

if TYPE_CHECKING:
    from comfygov.ops.context import Context
    from comfygov.ports.progress import Progress
    from comfygov.ports.uv import Interpreter
    from comfygov.truth.snapshots import State


class CloneRequest(msgspec.Struct, frozen=True):
    """`lock` is a path; without it `name` is a version of the home `home`. `torch_backend` is one of the builds that
    the lock carries; None: that of the lock's home."""

    target: str
    name: str | None = None
    lock: str | None = None
    home: str | None = None
    python: str | None = None
    skip_models: bool = False
    offline: bool = False
    wheels_dir: str | None = None
    torch_backend: str | None = None


class Cloned(msgspec.Struct, frozen=True):
    """`identical` says that the clone's own lock has the digest of the lock; else `differences` lists why not."""

    home: str
    version: str
    digest: str
    clone_digest: str
    identical: bool
    differences: tuple[VersionDifference, ...]
    python: str
    shared_with: str
    models: dict[str, int]
    stage_seconds: dict[str, float]
    torch_backend: str = ""


@dataclass(frozen=True)
class _Clone:
    """One clone under way: everything is made in `staging`, which gets the name `target` when it is proven."""

    request: CloneRequest
    found: Found
    target: Path
    staging: Path
    command: str
    progress: Progress
    stages: Stages
    build: str


def clone(request: CloneRequest, command: str, progress: Progress) -> Cloned:
    """Raises GovError before anything is written, or leaves no target."""
    target = Path(request.target).expanduser().absolute()
    refuse_target(target)
    found = find(request.name, request.lock, request.home)
    try:
        return _made(request, found, target, command, progress)
    finally:
        found.forget()


def _made(request: CloneRequest, found: Found, target: Path, command: str, progress: Progress) -> Cloned:
    python = version_environment.choose_python(found, request.python)
    build = builds.choose(found.lock, request.torch_backend)
    _refuse_inside(target)
    with fs.explained(target):
        made = _make_parents(target)
        _sweep(target)
    work = _Clone(request, found, target, fs.beside(target, "clone"), command, progress, Stages(progress), build)
    try:
        with fs.explained(target):
            fs.remove_tree(work.staging)
            return _clone(work, python)
    except BaseException:
        fs.remove_tree(work.staging)
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def refuse_target(target: Path) -> None:
    """A clone is made where nothing is."""
    refuse_source_checkout(target)
    if target.is_symlink():
        raise GovError(Code.ALREADY_EXISTS, f"{target} is a link", "name what it leads to, or another --target")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise GovError(Code.ALREADY_EXISTS, f"{target} is there and is not empty", "name another --target")


def _refuse_inside(target: Path) -> None:
    for folder in target.parents:
        if is_home(folder):
            raise GovError(Code.USAGE, f"{target} is inside the home {folder}", "name a --target outside of it")


def _make_parents(target: Path) -> list[Path]:
    """The folders above `target` that were made for it, innermost first."""
    missing = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _sweep(target: Path) -> None:
    """Take away what clones to this target that were killed have left."""
    for path in target.parent.glob(f".{target.name}.*.comfygov-clone"):
        pid = fs.leftover_of(path.name)
        if pid is not None and identity.started_at(pid) is None:
            fs.remove_tree(path)


def _clone(work: _Clone, python: Interpreter) -> Cloned:
    context = version_environment.prepare(
        work.staging, work.target, work.found, python, work.build, work.command, work.progress
    )
    if work.found.is_bundled:
        version_bundle.take_in(context.git, work.found.path.parent, work.found.lock)
    if work.request.offline:
        version_code.refuse_missing(context, work.found.lock)
    with work.stages.stage("objects"):
        version_code.gather(context, work.found.lock)
    faults.point("clone.objects")
    with work.stages.stage("code and environment"):
        state, shared = _code_and_environment(work, context)
    faults.point("clone.code")
    with work.stages.stage("commit"):
        version_environment.commit_first(context, work.found.lock, state)
    faults.point("clone.environment")
    with work.stages.stage("models"):
        models = version_models.place(context, work.found, skip=work.request.skip_models, offline=work.request.offline)
    with work.stages.stage("proof"):
        own = capture(context, work.found.lock.version_name).lock
        differences = comparing.differences(work.found.lock, own)
        _make_own(context, work.target)
    faults.point("clone.proven")
    _name(work)
    return Cloned(
        home=str(work.target),
        version=work.found.lock.version_name,
        digest=work.found.lock.digest,
        clone_digest=own.digest,
        identical=own.digest == work.found.lock.digest,
        differences=differences,
        python=context.interpreter.version,
        shared_with=shared,
        models=models,
        stage_seconds=work.stages.seconds,
        torch_backend=work.build,
    )


def _code_and_environment(work: _Clone, context: Context) -> tuple[State, str]:
    """Both at once: the one waits for git, the other for uv and the disk. Returns the first state, and the home whose
    environment was shared, or ``."""
    request = work.request
    with ThreadPoolExecutor(1) as pool:
        code = pool.submit(version_code.place, context, work.found.lock)
        built = version_environment.build(
            context, work.target, work.found, work.build, offline=request.offline, wheels_dir=request.wheels_dir
        )
        code.result()
    return built


def _make_own(context: Context, target: Path) -> None:
    """What names the home's own place names the one that it is about to have."""
    models = target / context.home.models.relative_to(context.home.root)
    text = model_paths_text("comfygov", models, is_default=True)
    fs.write_atomic(context.home.model_paths_file, text.encode())
    fs.write_atomic(context.home.comfyui / ".git" / "comfygov-home", f"{target}\n".encode())


def _name(work: _Clone) -> None:
    """From here on the clone is there. Nobody may have made something else there meanwhile."""
    refuse_target(work.target)
    fs.flush_file_system(work.staging)
    work.staging.rename(work.target)
    fs.fsync_directory(work.target.parent)
    faults.point("clone.named")
    with changing(open_home(str(work.target), work.command, work.progress)):
        pass  # the first command in a home lets the caches know it
