"""`gov version list|show|diff|verify`: looking at versions, and holding homes against them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.config import Config
from comfygov.model.version import VersionDifference, VersionLock
from comfygov.ops.version_capture import capture
from comfygov.ops.version_find import find, locks_of
from comfygov.ops.version_widen import seen_through
from comfygov.versions import comparing, lockfile

if TYPE_CHECKING:
    from comfygov.ops.context import Context
    from comfygov.ports.progress import Progress


class VersionRow(msgspec.Struct, frozen=True):
    """A lock of the home; `problem` is set for one that cannot be used."""

    name: str
    path: str
    digest: str = ""
    comfyui: str = ""
    nodes: int = 0
    packages: int = 0
    models: int = 0
    problem: str = ""


class VersionList(msgspec.Struct, frozen=True):
    versions: tuple[VersionRow, ...]


class CodeRange(msgspec.Struct, frozen=True):
    """The commits between the two ends of a move, newest first, as far as the object cache knows them."""

    name: str
    commits: tuple[str, ...]


class Compared(msgspec.Struct, frozen=True):
    before: str
    after: str
    identical: bool
    differences: tuple[VersionDifference, ...]
    commits: tuple[CodeRange, ...] = ()


class VersionVerified(msgspec.Struct, frozen=True):
    """A home against a lock: `identical` says that its own lock has the same digest."""

    home: str
    version: str
    digest: str
    home_digest: str
    identical: bool
    differences: tuple[VersionDifference, ...]


def list_versions(context: Context) -> VersionList:
    return VersionList(tuple(map(_row, locks_of(context.home.root))))


def _row(path: Path) -> VersionRow:
    name = path.name.removeprefix("comfy-").removesuffix(".lock.json")
    try:
        lock = lockfile.read(path)
    except GovError as error:
        return VersionRow(name, str(path), problem=error.message)
    counts = (len(lock.custom_nodes), len(lock.python.packages), len(lock.models))
    return VersionRow(name, str(path), lock.digest, lock.comfyui.commit, *counts)


def load(name: str, home: str | None) -> VersionLock:
    """A version by its name, or the lock at a path."""
    is_path = "/" in name or name.endswith((".json", ".bundle"))
    found = find(None, name, home) if is_path else find(name, None, home)
    found.forget()
    return found.lock


def compare(before: str, after: str, home: str | None, command: str, progress: Progress) -> Compared:
    one, other = load(before, home), load(after, home)
    context = without_home(command, progress)
    ranges = tuple(_ranges(context, one, other))
    return Compared(before, after, one.digest == other.digest, comparing.differences(one, other), ranges)


def without_home(command: str, progress: Progress) -> Context:
    """For what needs git and caches alone."""
    from comfygov.ops.context import Context
    from comfygov.truth.home import Home

    return Context(Home(Path("/"), Config()), command, progress)


def _ranges(context: Context, one: VersionLock, other: VersionLock) -> list[CodeRange]:
    from comfygov.ops.version_code import codes

    before = dict(codes(one))
    found = []
    for name, code in codes(other):
        old = before.get(name)
        if old is None or old.commit == code.commit or old.repo != code.repo:
            continue
        found.append(CodeRange(name, _commits(context, code.repo, old.commit, code.commit)))
    return found


_MOST_COMMITS = 200


def _commits(context: Context, repo: str, before: str, after: str) -> tuple[str, ...]:
    from comfygov.ports.git import recorded_source

    source = recorded_source(repo)
    if not (context.git.has_commit(source, before) and context.git.has_commit(source, after)):
        return ()
    arguments = ["log", "--format=%h %s", f"--max-count={_MOST_COMMITS}", f"{before}..{after}", "--"]
    return tuple((context.git.ask(context.git.cache_of(source), *arguments) or "").splitlines())


def verify(context: Context, name: str) -> VersionVerified:
    """Raises `drift` when the home is not even what its own head says."""
    lock = load(name, str(context.home.root))
    own = seen_through(context, lock, capture(context, lock.version_name).lock)
    if context.snapshots.pending() is not None:
        raise GovError(Code.BUSY, "a change of this home is not finished", "gov sync")
    differences = comparing.differences(lock, own)
    return VersionVerified(
        str(context.home.root), lock.version_name, lock.digest, own.digest, own.digest == lock.digest, differences
    )
