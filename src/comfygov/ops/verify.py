"""`gov verify`: the world held against head. It only reads."""

from __future__ import annotations

import os
import shlex
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ops import audit, production, sync
from comfygov.ops.context import LOCK_WAIT_SECONDS
from comfygov.ports import clones, lock
from comfygov.truth import checkouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.state import Head
    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State

Kind = Literal["commit", "truth", "environment", "link", "comfyui", "node", "unmanaged", "rights", "audit", "lock"]
_TRIES = 3
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Finding(msgspec.Struct, frozen=True):
    """One difference to head: what is wrong with what, and the command that mends it."""

    kind: Kind
    subject: str
    problem: str
    mend: str


class Verified(msgspec.Struct, frozen=True):
    """`deep` says that contents were read, not only sizes."""

    snapshot: str
    deep: bool
    findings: tuple[Finding, ...]


def verify(context: Context, *, deep: bool) -> Verified:
    """Compare environment, code, truth files, links and rights with head; with `deep` also contents,
    the audit chain and the kept snapshots."""
    for _ in range(_TRIES):
        before = _wait_for_quiet(context)
        found = _compare(context, deep=deep)
        if context.snapshots.head() == before and lock.holder(context.home.lock_file) is None:
            return found
    raise GovError(Code.BUSY, "production changes all the time while it is looked at", "run it again in a moment")


def _wait_for_quiet(context: Context) -> Head | None:
    """Head, at a moment when no command changes anything: half a change is no drift."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while (holder := lock.holder(context.home.lock_file)) is not None:
        if time.monotonic() > deadline:
            raise GovError(Code.BUSY, f"`{holder.command}` (pid {holder.pid}) is at work", "wait until it is done")
        time.sleep(0.05)
    return context.snapshots.head()


def _compare(context: Context, *, deep: bool) -> Verified:
    head = context.snapshots.require_head()
    state = context.snapshots.read(head.snapshot)
    found = [
        *_unfinished(context),
        *_truth(context, state),
        *_environment(context, state, deep=deep),
        *_links(context, state),
        *_code(context, state),
        *_unmanaged(context, state),
        *_rights(context),
        *_lock(context),
        *(_audit(context) if deep else ()),
    ]
    return Verified(head.snapshot, deep, tuple(found))


def _unfinished(context: Context) -> Iterator[Finding]:
    pending = context.snapshots.pending()
    if pending is not None:
        yield Finding("commit", pending.target, f"`{pending.command}` was interrupted", "gov sync")


def _truth(context: Context, state: State) -> Iterator[Finding]:
    for name in sync.edited_truth(context, state):
        yield Finding("truth", name, "differs from head", "gov sync (your version is kept in state/rescued)")


def _environment(context: Context, state: State, *, deep: bool) -> Iterator[Finding]:
    generation = state.generation
    problems = context.generations.problems(generation)
    if context.generations.exists(generation):
        problems += [line for line in context.generations.closely(generation, deep=deep) if line not in problems]
    running = production.running(context)
    mend = "gov stop, then gov sync" if running and running.generation == generation else "gov sync"
    for line in problems:
        yield Finding("environment", generation, line.removeprefix("environment: "), mend)
    for line in sync.lost_interpreter(context):
        yield Finding("environment", "config.toml", line, f"write one that is there into {context.home.config_file}")


def _links(context: Context, state: State) -> Iterator[Finding]:
    home = context.home
    for link, target in ((home.production_link, home.venvs / state.generation), (home.activate_link, None)):
        wanted = os.path.realpath(target or home.production_link)
        if not link.is_symlink():
            mend = f"mv {link} {link}.old, then gov sync" if link.exists() else "gov sync"
            yield Finding("link", link.name, "is not there" if not link.exists() else "is no link", mend)
        elif os.path.realpath(link) != wanted:
            yield Finding("link", link.name, f"leads to {os.readlink(link)}", "gov sync")  # noqa: PTH115


def _code(context: Context, state: State) -> Iterator[Finding]:
    """Commits and edits of ComfyUI and every pack, several at a time: each asks git three times."""
    with ThreadPoolExecutor(8) as pool:
        for findings in pool.map(
            lambda target: list(_checkout(context, *target)), checkouts.targets(context.home, state)
        ):
            yield from findings


def _checkout(context: Context, name: str, checkout: Path, _source: str, commit: str) -> Iterator[Finding]:
    kind: Kind = "comfyui" if checkout == context.home.comfyui else "node"
    at = context.git.head(checkout)
    if at is None:
        there = checkout.exists()
        problem = "is no git checkout" if there else "is not there"
        yield Finding(kind, name, problem, f"mv {checkout} {checkout}.disabled, then gov sync" if there else "gov sync")
        return
    if at != commit:
        yield Finding(kind, name, f"is at {at[:10]}, head says {commit[:10]}", "gov sync")
    elif not clones.in_place(context.git, checkout, commit):
        yield Finding(kind, name, "a submodule is at another commit", "gov sync")
    for file in _edited(context, checkout, commit):
        shown = file.encode(errors="surrogateescape").decode(errors="replace")
        yield Finding(kind, name, f"{shown} is edited", f"git -C {shlex.quote(str(checkout))} stash")


def _edited(context: Context, checkout: Path, commit: str) -> Iterator[str]:
    """Edited files of a checkout and of its submodules."""
    yield from context.git.edited(checkout)
    for path, _, sub_commit in context.git.submodules(checkout, commit):
        if context.git.head(checkout / path) == sub_commit:
            yield from (f"{path}/{file}" for file in _edited(context, checkout / path, sub_commit))


def _unmanaged(context: Context, state: State) -> Iterator[Finding]:
    loads = context.config.policy.unmanaged_nodes == "allow"
    found = sync.unmanaged(context, state)
    parked = _parked(context) if found and not loads else frozenset()
    for name in (name for name in found if name not in parked):
        path = context.home.custom_nodes / name
        origin = context.git.origin(path) if (path / ".git").exists() else ""
        aside = f"mv {shlex.quote(str(path))} {shlex.quote(str(path) + '.disabled')}"
        problem = "is not managed, and production loads it" if loads else "is not managed; production does not load it"
        yield Finding("unmanaged", name, problem, f"{aside}, then gov node add {origin}" if origin else aside)


def _parked(context: Context) -> frozenset[str]:
    """Packs of other kept snapshots: a rollback leaves their folders for the way forward, and does not load them."""
    registries = (context.snapshots.read(name).registry for name in context.snapshots.ids())
    return frozenset(plugin.id for registry in registries for plugin in registry.plugins)


def _rights(context: Context) -> Iterator[Finding]:
    home = context.home
    for path in (home.root, home.state, home.snapshots, home.venvs, home.config_file, home.head_file, home.audit_file):
        if path.exists() and path.stat().st_mode & _WRITABLE_BY_OTHERS:
            yield Finding("rights", str(path), "others may write it", f"chmod -R go-w {shlex.quote(str(home.root))}")


def _lock(context: Context) -> Iterator[Finding]:
    if not lock.works(context.home.lock_file):
        subject = str(context.home.root)
        yield Finding("lock", subject, "locks do nothing on this file system", "move the home to a local disk")


def _audit(context: Context) -> Iterator[Finding]:
    for problem in audit.check(context).problems:
        yield Finding("audit", "state/audit.jsonl", problem, "gov audit shows it")
