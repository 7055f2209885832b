"""What every use case works with: an opened home, its stores, and the tools."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.tx import Promotion
from comfygov.ports import clock, faults, identity, lock, process
from comfygov.ports.fs import explain_os_error
from comfygov.ports.secrets import hidden
from comfygov.truth.home import Home, cache_root, find_root, is_home, refuse_links, refuse_source_checkout
from comfygov.truth.settings import read_config
from comfygov.truth.snapshots import Snapshots
from comfygov.truth.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.envs.generation import Generations
    from comfygov.model.config import Config
    from comfygov.model.tx import Transaction
    from comfygov.ports.git import Git
    from comfygov.ports.progress import Progress
    from comfygov.ports.uv import Interpreter, Uv
    from comfygov.truth.commit import Truth
    from comfygov.truth.snapshots import State

__all__ = [
    "Context",
    "changing",
    "discard_work",
    "explain_os_error",
    "find_root",
    "hidden",
    "open_home",
    "trial_run_id",
    "work_directory",
]  # fmt: skip

LOCK_WAIT_SECONDS = 5.0
_EMPTY_RECORD_SECONDS = 60.0


@dataclass
class Context:
    """One command at work on one home. `command` is the command line without secrets."""

    home: Home
    command: str
    progress: Progress

    @property
    def config(self) -> Config:
        return self.home.config

    @cached_property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.home)

    @cached_property
    def truth(self) -> Truth:
        from comfygov.truth.commit import Truth

        return Truth(self.home, self.git, self.snapshots)

    @cached_property
    def transactions(self) -> Transactions:
        return Transactions(self.home)

    @cached_property
    def git(self) -> Git:
        from comfygov.ports.git import Git

        return Git(lambda: cache_root() / "git", self.home.state / "code")

    @cached_property
    def uv(self) -> Uv:
        from comfygov.ports.uv import Uv

        return Uv()

    @cached_property
    def generations(self) -> Generations:
        from comfygov.envs.generation import Generations

        return Generations(self.home.venvs, self.home.state / "environments.json", lambda: self.uv)

    @cached_property
    def interpreter(self) -> Interpreter:
        """The Python that this home's environments are built on."""
        from comfygov.ports.uv import inspect_interpreter

        if not self.config.python.interpreter:
            raise GovError(
                Code.BAD_CONFIG,
                f"{self.home.config_file} names no Python that environments are built on",
                'write the path of the one below [python], as interpreter = "/usr/bin/python3"',
            )
        try:
            return inspect_interpreter(self.config.python.interpreter)
        except GovError as error:
            error.hint = f"write one that is there into {self.home.config_file}, [python] interpreter; then gov sync"
            raise

    def head_state(self) -> State:
        return self.snapshots.read(self.snapshots.require_head().snapshot)


def open_home(given: str | None, command: str, progress: Progress) -> Context:
    """The governed home that the command is about; raises `not_a_home`, `bad_config`, `home_newer`."""
    root = find_root(given)
    refuse_source_checkout(root)
    if not is_home(root):
        from comfygov.ops import recovering

        if recovering.lost_its_config(root):
            raise recovering.config_is_lost(root)
        raise GovError(Code.NOT_A_HOME, f"{root} is no governed home", f"gov init --path {shlex.quote(str(root))}")
    context = Context(Home(root, read_config(root / "config.toml")), command, progress)
    refuse_links(context.home)
    context.snapshots.head()
    return context


@contextmanager
def changing(context: Context) -> Iterator[None]:
    """Hold the home's lock for the block; first finish what a dead command left behind."""
    from comfygov.ops import claims, gc_cache, unrecorded
    from comfygov.truth import commit

    with lock.exclusive(context.home.lock_file, context.command, LOCK_WAIT_SECONDS):
        faults.point("lock.held")
        if not lock.works(context.home.lock_file):
            where = f"locks do nothing on the file system of {context.home.root}"
            context.progress.warn(f"{where}: never run two changing commands at once, or move the home to a local disk")
        if context.snapshots.head() is not None:
            claims.claim(context)
            gc_cache.remember_home(context.home.root.absolute())
        said = commit.finish_pending(context.truth)
        if said:
            context.progress.note(said)
        _close_dead_transactions(context)
        unrecorded.clear_dead(context)
        note_promotion(context)
        yield


def _close_dead_transactions(context: Context) -> None:
    """A trial whose process died is `failed`; its environment and tree are taken away."""
    for summary in context.transactions.summaries():
        if summary.status != "running" or identity.is_same_process(summary.owner_pid, summary.owner_started):
            continue
        if not summary.started_at:
            _drop_if_stale(context.home.transactions / f"{summary.txid}.json")
            continue
        tx = context.transactions.load(summary.txid)
        if tx.status != "running":
            continue  # it was done between the two looks
        process.end_marked(trial_run_id(context, tx.txid))
        discard_work(context, tx.txid)
        if tx.earlier is not None:
            context.transactions.save(tx.earlier)
            context.progress.note(
                f"the repeated trial of {tx.txid} was interrupted: it is {tx.earlier.status} as before"
            )
            continue
        context.transactions.save(
            msgspec.structs.replace(
                tx,
                status="needs_resolution" if tx.conflict_report else "failed",
                ended_at=clock.now(),
                error="its process ended before the trial did",
                candidate_env=None,
            )
        )
        context.progress.note(f"transaction {tx.txid} is marked as failed: its process had ended")


def transaction(context: Context, txid: str) -> Transaction:
    """The transaction that `txid` names; one whose process died is closed first."""
    tx = context.transactions.load(txid)
    if tx.status == "running" and not identity.is_same_process(tx.owner_pid, tx.owner_started):
        with changing(context):
            tx = context.transactions.load(txid)
    return tx


def approved_lines(tx: Transaction) -> tuple[str, ...]:
    """What a promote with an approval approves: core packages that move, and versions that are forced."""
    forced = [f"{entry.requirement} is forced: {entry.reason}" for entry in tx.overrides]
    return (*tx.core_impact.lines(), *forced)


def note_promotion(context: Context) -> None:
    """A promote that died between its commit point and its record: head says that it happened."""
    head = context.snapshots.head()
    meta = context.snapshots.meta(head.snapshot) if head else None
    if meta is None or meta.kind != "promote_post" or meta.txid is None:
        return
    if not context.transactions.exists(meta.txid):
        return  # it was lost, or moved aside because it could not be read
    tx = context.transactions.load(meta.txid)
    plan = tx.promotion_plan
    if tx.status == "promoted" or plan is None or plan.generation != meta.generation:
        return
    pre = [m.id for m in context.snapshots.metas() if m.kind == "promote_pre" and m.txid == meta.txid]
    approved = approved_lines(tx) if meta.approved_by else ()
    promotion = Promotion("promoted", meta.reason, meta.approved_by, approved, pre[-1] if pre else None, meta.id)
    context.transactions.save(msgspec.structs.replace(tx, status="promoted", promotion=promotion, candidate_env=None))
    discard_work(context, tx.txid)


def _drop_if_stale(path: Path) -> None:
    """A record that never got its first content: its process died between two system calls, unless it
    is doing them right now."""
    if clock.wall_seconds() - path.stat().st_mtime > _EMPTY_RECORD_SECONDS:
        path.unlink()


def discard_work(context: Context, txid: str) -> None:
    """Remove the candidate environment and the private tree of a transaction; its logs stay."""
    from comfygov.ports import fs

    work = context.home.work
    for path in (
        context.home.candidates / txid,
        work / txid,
        work / f"{txid}-desk",
        work / f"{txid}-boot",
        work / f"{txid}-promote-boot",
    ):
        fs.remove_tree(path)


def trial_run_id(context: Context, name: str) -> str:
    """What marks every process of a trial, so that those of a dead command can be found and ended."""
    return f"{context.home.root}:{name}"


def work_directory(context: Context, name: str) -> Path:
    """A fresh, empty directory below state/work."""
    from comfygov.ports import fs

    path = context.home.work / name
    fs.remove_tree(path)
    path.mkdir(parents=True)
    return path
