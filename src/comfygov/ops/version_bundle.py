"""`gov version bundle`: a lock with its wheels, git objects and, if asked, models, as one file for a machine without a
network; and its way back into the caches.

A tar file: `lock.json`, `wheels/FILE`, `git/N.bundle` with `git/index.json`, `models/SHA256`.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.version import WHEELS
from comfygov.ops import version_wheels
from comfygov.ops.version_capture import VersionFinding, file_sum
from comfygov.ops.version_code import codes
from comfygov.ports import clones, fs, identity
from comfygov.ports.git import Git, Source, recorded_source
from comfygov.truth.home import cache_root
from comfygov.versions import judging, lockfile, portable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.version import VersionLock
    from comfygov.ops.context import Context
    from comfygov.ops.version_find import Found

LOCK = "lock.json"
_INDEX = "git/index.json"


class BundledCode(msgspec.Struct, frozen=True):
    """One entry of `git/index.json`. `shallow` are commits at which a history was cut off (gitrepository-layout(5),
    `shallow`): without them git would look for their parents."""

    source: str
    commit: str
    file: str
    shallow: tuple[str, ...] = ()


class Bundled(msgspec.Struct, frozen=True):
    """`missing` names what is not in the bundle: packages without a wheel for this platform."""

    path: str
    bytes: int
    wheels: int
    repositories: int
    models: int
    missing: tuple[VersionFinding, ...]


def bundle(context: Context, found: Found, output: str, *, with_models: bool) -> Bundled:
    """Raises GovError, and leaves no half file."""
    path = Path(output).expanduser().absolute()
    work = fs.beside(path, "bundle")
    fs.remove_tree(work)
    with fs.explained(path):
        work.mkdir(parents=True)
        try:
            (work / LOCK).write_bytes(lockfile.encode(found.lock))
            wheels, missing = _wheels(context, found, work)
            repositories = _repositories(context, found.lock, work)
            models = _models(context, found, work) if with_models else 0
            temporary = work / "bundle.tar"
            _pack(work, temporary)
            temporary.replace(path)
        finally:
            fs.remove_tree(work)
    return Bundled(str(path), path.stat().st_size, wheels, repositories, models, tuple(missing))


def _pack(work: Path, target: Path) -> None:
    files = sorted(path for path in work.rglob("*") if path.is_file() and path != target)
    files.sort(key=lambda path: path.name != LOCK)
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in files:
            entry = tarfile.TarInfo(path.relative_to(work).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _wheels(context: Context, found: Found, work: Path) -> tuple[int, list[VersionFinding]]:
    lock = found.lock
    version_wheels.lay(lock, work / WHEELS, version_wheels.folders(found, None))
    wanted, missing = [], []
    for package in portable.packages_in(lock.python.uv_lock):
        if package.get("source", {}).get("registry") == WHEELS:
            continue
        best = _best(package, lock)
        if best is None:
            problem = "it has no wheel for this platform, so it is not in the bundle"
            missing.append(VersionFinding("package", f"{package['name']} {package.get('version', '')}", problem))
        else:
            wanted.append(best)
    if wanted:
        _fetch(context, work, wanted)
    return len(list((work / WHEELS).iterdir())) if (work / WHEELS).is_dir() else 0, missing


def _best(package: dict[str, Any], lock: VersionLock) -> dict[str, Any] | None:
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    minor = int(lock.python.requires.split(".")[1])
    order = {tag: n for n, tag in enumerate([*cpython_tags((3, minor)), *compatible_tags((3, minor))])}
    ranked = []
    for wheel in package.get("wheels", []):
        try:
            tags = parse_wheel_filename(file_of(wheel))[3]
        except InvalidWheelFilename:
            continue
        ranks = [order[tag] for tag in tags if tag in order]
        if ranks:
            ranked.append((min(ranks), file_of(wheel), wheel))
    return min(ranked, key=lambda one: one[:2])[2] if ranked else None


def file_of(wheel: dict[str, Any]) -> str:
    return unquote(urlsplit(str(wheel.get("url", ""))).path.rpartition("/")[2])


def _fetch(context: Context, work: Path, wheels: list[dict[str, Any]]) -> None:
    """The way of the models: in parallel, checked by sha256, gone on with after an interruption."""
    from comfygov.ops.models_place import Asked, open_place
    from comfygov.ops.models_verify import VerifyRequest, problem_of, verify

    entries = [
        {"name": file_of(w), "target_path": f"{WHEELS}/{file_of(w)}", "source": w["url"], "checksum": w["hash"]}
        for w in wheels
    ]
    spec = work / "fetch.json"
    spec.write_bytes(msgspec.json.encode({"models": entries}))
    place = open_place(Asked(models_dir=str(work), spec=str(spec)), context.command, context.progress)
    result = verify(place, VerifyRequest())
    spec.unlink()
    problem = problem_of(result)
    if problem is not None:
        lines = tuple(f"{state.name}: {state.problem} {' '.join(state.skipped)}" for state in result.bad)
        raise GovError(problem.code, f"{len(result.bad)} wheels could not be had", "run it again", lines[:20])


def _repositories(context: Context, lock: VersionLock, work: Path) -> int:
    (work / "git").mkdir()
    index: dict[tuple[str, str], BundledCode] = {}
    for _, code in codes(lock):
        source = recorded_source(code.repo)
        clones.ensure_cached(context.git, source, code.commit)
        for part, commit in _with_submodules(context.git, source, code.commit):
            if (part.public, commit) not in index:
                file = f"git/{len(index)}.bundle"
                words = ["bundle", "create", "--quiet", str(work / file), f"refs/comfygov/keep/{commit}"]
                context.git.keep(part, commit)
                context.git.read(words, context.git.cache_of(part))
                shallow = _cut_off(context.git, context.git.cache_of(part), commit)
                index[part.public, commit] = BundledCode(part.public, commit, file, shallow)
    (work / _INDEX).write_bytes(msgspec.json.encode(list(index.values())))
    return len(index)


def _cut_off(git: Git, repository: Path, commit: str) -> tuple[str, ...]:
    """Where the history of `commit` ends in a repository that was not cloned whole."""
    listed = repository / "shallow"
    if not listed.is_file():
        return ()
    ends = set(listed.read_text(encoding="ascii").split())
    return tuple(sorted(ends & set(git.read(["rev-list", commit, "--"], repository).split())))


def _with_submodules(git: Git, source: Source, commit: str, depth: int = 0) -> Iterator[tuple[Source, str]]:
    yield source, commit
    if depth < clones.MAX_SUBMODULE_DEPTH:
        for _, url, inner in git.submodules(git.cache_of(source), commit):
            yield from _with_submodules(git, clones.submodule_source(source, url), inner, depth + 1)


def _models(context: Context, found: Found, work: Path) -> int:
    from comfygov.ops import version_models

    if not found.lock.models:
        return 0
    states = version_models.gathered(found, work / "models-by-name", context.command, context.progress)
    (work / "models").mkdir()
    for model, path in states:
        path.replace(work / "models" / model.checksum.removeprefix("sha256:"))
    fs.remove_tree(work / "models-by-name")
    return len(states)


def is_bundle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(512)[257:262] == b"ustar"
    except OSError:
        return False


_MEMBER = re.compile(r"lock\.json|git/index\.json|git/\d+\.bundle|wheels/[A-Za-z0-9_.+!-]+|models/[0-9a-f]{64}")


_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MOST_MEMBERS = 20_000
_MOST_HEADER_BYTES = 1 << 24
_CHUNK_BYTES = 1 << 20


class _Guarded(io.FileIO):
    """A bundle of somebody else's: the headers of a tar file are read in one piece, whatever they say of their size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError("a header of it is too large")
        return super().read(size)


def opened(path: Path) -> Path:
    """Unpack a bundle into a folder of the cache, and return the path of its lock. Its content is judged by the sums
    of the lock when it is used; nothing comes out that is larger than the bundle. Raises `bad_config`, `disk_full`."""
    work = fs.beside(cache_root() / "bundle", "opened")
    _sweep()
    fs.remove_tree(work)
    try:
        with fs.explained(work):
            work.mkdir(parents=True)
            _refuse_without_space(path, work)
            with _Guarded(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                _unpack(path, archive, work)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        fs.remove_tree(work)
        raise judging.bad(path, f"it is damaged: {error}") from error
    except BaseException:
        fs.remove_tree(work)
        raise
    return work / LOCK


def _sweep() -> None:
    """Take away what commands that were killed have left: each as large as its bundle."""
    for path in cache_root().glob(".bundle.*.comfygov-opened"):
        pid = fs.leftover_of(path.name)
        if pid is not None and identity.started_at(pid) is None:
            fs.remove_tree(path)


def _refuse_without_space(path: Path, work: Path) -> None:
    wanted, free = path.stat().st_size, fs.free_bytes(work)
    if wanted > free:
        message = f"{path} has {wanted} bytes, and there are {free} free where it is to be unpacked"
        raise GovError(Code.DISK_FULL, message, "free space, or let COMFYGOV_CACHE name a folder on another disk")


def _unpack(path: Path, archive: tarfile.TarFile, work: Path) -> None:
    left = path.stat().st_size
    for number, member in enumerate(archive):
        left -= member.size
        if number >= _MOST_MEMBERS or left < 0:
            raise judging.bad(path, "it says that it holds more than it can")
        _refuse_odd_member(path, member)
        target = work / member.name
        if target.exists():
            raise judging.bad(path, f"it holds `{member.name}` twice")
        target.parent.mkdir(parents=True, exist_ok=True)
        file = archive.extractfile(member) or io.BytesIO()
        with target.open("xb") as out:
            while chunk := file.read(_CHUNK_BYTES):
                out.write(chunk)
    if not (work / LOCK).is_file():
        raise judging.bad(path, f"it has no {LOCK}")


def _refuse_odd_member(path: Path, member: tarfile.TarInfo) -> None:
    if not member.isreg() or member.issparse() or not _MEMBER.fullmatch(member.name):
        raise judging.bad(path, f"it holds `{member.name[:100]}`, which no bundle has")


def take_in(git: Git, folder: Path, lock: VersionLock) -> None:
    """Put git objects and models of an unpacked bundle into the caches: models that the lock names, by their sums."""
    for number, code in enumerate(_index(folder)):
        if not _MEMBER.fullmatch(code.file) or not all(map(_COMMIT.fullmatch, (code.commit, *code.shallow))):
            raise judging.bad(folder, "its index of repositories is odd")
        _take_repository(git, code, folder, folder / f"scratch-{number}")
    _take_models(folder, {model.checksum.removeprefix("sha256:") for model in lock.models})


def _index(folder: Path) -> list[BundledCode]:
    try:
        return msgspec.json.decode((folder / _INDEX).read_bytes(), type=list[BundledCode])
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        raise judging.bad(folder, f"its index of repositories cannot be read: {error}") from error


def _take_repository(git: Git, code: BundledCode, folder: Path, scratch: Path) -> None:
    from comfygov.ports import git_content

    source = recorded_source(code.source)
    if git.has_commit(source, code.commit):
        return
    if not (git.cache_of(source) / "config").is_file():
        git.read(["init", "--quiet", "--bare", "--", str(scratch)], folder)
        git_content.into_cache(git, source, scratch)
    _cut_off_at(git, git.cache_of(source), code.shallow)
    git.borrow(git.cache_of(source), folder / code.file, code.commit)


def _cut_off_at(git: Git, repository: Path, commits: tuple[str, ...]) -> None:
    """Let the history of a cache end at those of `commits` that it does not have: what it has, stays whole."""
    new = [commit for commit in commits if not git.contains(repository, commit)]
    if new:
        listed = repository / "shallow"
        known = listed.read_text(encoding="ascii").split() if listed.is_file() else []
        fs.write_atomic(listed, "".join(f"{commit}\n" for commit in sorted({*known, *new})).encode())


def _take_models(folder: Path, wanted: set[str]) -> None:
    from comfygov.models.hashing import Memory
    from comfygov.models.store import BlobStore

    root = cache_root() / "models"
    store = BlobStore(root, Memory(root / "hashes.json"))
    for path in sorted((folder / "models").glob("*")):
        if path.name not in wanted:
            continue
        if file_sum(path) != path.name:
            raise judging.bad(folder, f"the model {path.name} is damaged")
        if not store.path(path.name).exists():
            store.take(path, path.name)
    store.memory.save()
