"""`gov outdated`: what could be updated, and the command that tries it. Production is only read."""

from __future__ import annotations

import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import msgspec

from comfygov.envs.record import difference
from comfygov.errors import GovError
from comfygov.model.names import canonical
from comfygov.model.tx import PackageVersion
from comfygov.ops import history, locking, unrecorded
from comfygov.ports import git_history, process
from comfygov.ports.git import recorded_source
from comfygov.ports.git_history import RefKind
from comfygov.ports.progress import Stages
from comfygov.ports.source import REGISTRY

if TYPE_CHECKING:
    from comfygov.model.state import Plugin
    from comfygov.ops.context import Context
    from comfygov.ports.git import Source
    from comfygov.truth.snapshots import State

_FETCHES_AT_ONCE = 8
_STALL_SECONDS = 30


class CodeRow(msgspec.Struct, frozen=True):
    """ComfyUI or a pack. `follows` says what kind of thing `ref` is; tags and commits are pins.

    `newest` is the newest commit of `newest_of`: of what is followed, and of the default branch when a pin is as
    it was. `behind` are the commits that it has and we have not, `ahead` the other way round (None where git
    cannot tell). `command` tries the update; empty when there is none. `problem` says why nothing is known.
    """

    name: str
    source: str
    commit: str
    ref: str | None
    state: Literal["enabled", "disabled", "not promoted"] = "enabled"
    follows: RefKind | Literal["unknown"] = "unknown"
    pinned: bool = False
    newest: str = ""
    newest_of: str = ""
    behind: int | None = None
    ahead: int | None = None
    outdated: bool = False
    command: str = ""
    problem: str = ""


class Release(msgspec.Struct, frozen=True):
    """The newest release tag of ComfyUI. `included` says that what we have holds it; else `command` tries it."""

    tag: str
    commit: str
    included: bool
    command: str


class PackageRow(msgspec.Struct, frozen=True):
    """`newest` is what the resolver takes when it may move every package within what is declared."""

    name: str
    version: str
    newest: str
    is_core: bool
    command: str


class Packages(msgspec.Struct, frozen=True):
    """`added` and `removed` would come and go with the others."""

    locked: int
    outdated: tuple[PackageRow, ...] = ()
    added: tuple[PackageVersion, ...] = ()
    removed: tuple[PackageVersion, ...] = ()
    problem: str = ""


class Unanswered(msgspec.Struct, frozen=True):
    """Something that could not be asked, and what helps; `details` are the last words of git or uv."""

    kind: Literal["comfyui", "pack", "packages"]
    subject: str
    problem: str
    hint: str
    details: tuple[str, ...] = ()


class Outdated(msgspec.Struct, frozen=True):
    snapshot: str
    comfyui: CodeRow
    release: Release | None
    packs: tuple[CodeRow, ...]
    packages: Packages
    unanswered: tuple[Unanswered, ...]
    seconds: float


def find(context: Context) -> Outdated:
    """Ask every repository and the resolver; who does not answer is named in `unanswered`."""
    began = time.monotonic()
    head = context.snapshots.require_head().snapshot
    state = context.snapshots.read(head)
    ready = (context.git.cache, context.uv, context.interpreter)  # found once, not by each thread
    del ready
    with Stages(context.progress).stage("ask upstream"), ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
        try:
            packages = pool.submit(_packages, context, state)
            comfyui = pool.submit(_comfyui, context, state)
            packs = [pool.submit(_pack, context, row) for row in _registered(state)]
            asked = [comfyui.result(), *(pack.result() for pack in packs)]
            locked, lock_problem = packages.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            process.kill_children()  # Ctrl-C shall not wait for a network
            raise
    problems = (*(problem for _, problem in asked), lock_problem)
    return Outdated(
        snapshot=head,
        comfyui=asked[0][0],
        release=None if asked[0][1] else _release(context, asked[0][0]),
        packs=tuple(row for row, _ in asked[1:]),
        packages=locked,
        unanswered=tuple(problem for problem in problems if problem),
        seconds=round(time.monotonic() - began, 3),
    )


def _registered(state: State) -> list[CodeRow]:
    return [CodeRow(p.id, p.source, p.commit, p.ref, _word(p)) for p in state.registry.plugins]


def _word(plugin: Plugin) -> Literal["enabled", "disabled", "not promoted"]:
    if plugin.enabled:
        return "enabled"
    return "disabled" if plugin.promoted else "not promoted"


def _pack(context: Context, row: CodeRow) -> tuple[CodeRow, Unanswered | None]:
    try:
        found = _compared(context, row)
    except GovError as error:
        return _without_answer(row, "pack", error)
    # Without --ref, a first run tries the commit that was registered.
    elsewhere = (found.pinned and found.newest_of != row.ref) or row.state == "not promoted"
    ref = f" --ref {_to_try(context, found)}" if elsewhere else ""
    return _with_command(found, f"gov tx run {row.name}{ref}"), None


def _comfyui(context: Context, state: State) -> tuple[CodeRow, Unanswered | None]:
    pin = state.declared.comfyui
    row = CodeRow("ComfyUI", pin.repo, pin.commit, pin.ref)
    try:
        found = _compared(context, row)
    except GovError as error:
        return _without_answer(row, "comfyui", error)
    return _with_command(found, f"gov tx run --comfyui {_to_try(context, found)}"), None


def _compared(context: Context, row: CodeRow) -> CodeRow:
    """`row` with what its repository says now."""
    git, source = context.git, recorded_source(row.source)
    git.fetch(source, row.ref, stall_seconds=_STALL_SECONDS)
    newest, newest_of = git.resolve(source, row.ref), row.ref or ""
    follows = git_history.kind_of(git, source, row.ref)
    pinned = follows in ("tag", "commit")
    if pinned and newest == row.commit:
        if source.public.startswith(REGISTRY):
            git.fetch(source, stall_seconds=_STALL_SECONDS)  # there, a version comes alone
        newest, newest_of = git.resolve(source, None), ""
    counted = git_history.distance(git, source, row.commit, newest)
    return msgspec.structs.replace(
        row,
        follows=follows,
        pinned=pinned,
        newest=newest,
        newest_of=newest_of or git_history.default_branch(git, source) or "the default branch",
        ahead=counted[0] if counted else None,
        behind=counted[1] if counted else None,
        outdated=newest != row.commit and (counted is None or counted[1] > 0),
    )


def _to_try(context: Context, row: CodeRow) -> str:
    """What names the newest commit on a command line: its branch or tag, else itself."""
    source = recorded_source(row.source)
    try:
        named = context.git.resolve(source, row.newest_of) == row.newest
    except GovError:
        named = False
    return shlex.quote(row.newest_of) if named else row.newest


def _with_command(row: CodeRow, command: str) -> CodeRow:
    return msgspec.structs.replace(row, command=command if row.outdated else "")


def _without_answer(row: CodeRow, kind: Literal["comfyui", "pack"], error: GovError) -> tuple[CodeRow, Unanswered]:
    problem = Unanswered(kind, row.name, error.message, error.hint, error.details)
    return msgspec.structs.replace(row, problem=error.message), problem


def _release(context: Context, row: CodeRow) -> Release | None:
    source: Source = recorded_source(row.source)
    found = git_history.newest_release(context.git, source)
    if found is None:
        return None
    tag, commit = found
    included = git_history.includes(context.git, source, row.commit, commit)
    return Release(tag, commit, included, "" if included else f"gov tx run --comfyui {shlex.quote(tag)}")


def _packages(context: Context, state: State) -> tuple[Packages, Unanswered | None]:
    """Head's lock against one that may move everything, made of a copy of head's project."""
    before = history.packages_of(state)
    with unrecorded.working(context, "outdated") as name:
        project = locking.write_project(context.home.work / name, state)
        try:
            outcome = context.uv.lock(project, context.interpreter.path, ("*",))
        except GovError as error:
            return _no_packages(len(before), error)
        if outcome.verdict != "locked":
            return _no_packages(len(before), locking.NoSolution(outcome.verdict, outcome.text))
        after = history.versions_in((project / "uv.lock").read_bytes())
    moved = difference(before, after)
    core = {canonical(name) for name in context.config.policy.core_packages}
    rows = (
        PackageRow(p.name, p.before, p.after, p.name in core, f"gov tx run --upgrade {p.name}") for p in moved.changed
    )
    return Packages(len(before), tuple(rows), moved.added, moved.removed), None


def _no_packages(locked: int, error: GovError) -> tuple[Packages, Unanswered]:
    problem = Unanswered("packages", "packages", error.message, error.hint, error.details)
    return Packages(locked, problem=error.message), problem
