"""`gov gc`: take away what neither head, nor a kept snapshot, nor an open transaction needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from comfygov.envs.generation import SEAL_FILE
from comfygov.models import folders as models_folders
from comfygov.ops import committing, gc_cache, production, unrecorded
from comfygov.ops.context import changing
from comfygov.ports import faults, fs, identity
from comfygov.ports.usage import Freeing
from comfygov.truth import audit, commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.tx import TxSummary
    from comfygov.ops.context import Context

Kind = Literal["snapshot", "environment", "candidate", "work", "leftover", "cache"]
_CLOSED = ("promoted", "aborted")


class Unused(msgspec.Struct, frozen=True):
    """Something that goes. `bytes` are those that come free with it, after what stands before it."""

    kind: Kind
    path: str
    bytes: int
    reason: str


class GcResult(msgspec.Struct, frozen=True):
    """`kept_back` says why something unused was left where it is."""

    dry_run: bool
    removed: tuple[Unused, ...]
    freed_bytes: int
    kept_back: tuple[str, ...]


def collect(context: Context, *, dry_run: bool) -> GcResult:
    """Find and remove; with `dry_run` only find, without the lock and without finishing what others began."""
    if dry_run:
        return _result(_find(context), _kept_back(context), dry_run=True)
    with changing(context):
        found = _find(context)
        result = _result(found, _kept_back(context), dry_run=False)
        for _, path, _ in found:
            faults.point("gc.removing")
            with fs.explained(path):
                fs.remove_tree(path)
        if found and context.snapshots.head() is not None:
            reason = f"{len(found)} unused, {result.freed_bytes} bytes freed"
            commit.record(context.truth, audit.entry(context.command, "gc", reason=reason))
        return result


def _result(found: list[tuple[Kind, Path, str]], kept_back: tuple[str, ...], *, dry_run: bool) -> GcResult:
    freeing = Freeing()
    removed = tuple(Unused(kind, str(path), freeing.add(path), reason) for kind, path, reason in found)
    return GcResult(dry_run, removed, sum(item.bytes for item in removed), kept_back)


def _find(context: Context) -> list[tuple[Kind, Path, str]]:
    """What goes, in this order: a kill between two leaves nothing that needs what went before."""
    found: list[tuple[Kind, Path, str]] = []
    doomed: list[str] = []
    if context.snapshots.head() is not None:
        doomed = committing.excess(context, frozenset())
        found += [("snapshot", context.home.snapshots / name, "beyond snapshot_retention") for name in doomed]
        found += [("candidate", path, "its transaction is closed") for path in _candidates(context)]
        found += [("work", path, "its command is done") for path in _work(context)]
        if not _trials(context) and not unrecorded.living(context):
            found += [("environment", path, "no snapshot needs it") for path in _environments(context, doomed)]
    found += [("leftover", path, "a command that was killed left it") for path in _leftovers(context)]
    return found + [("cache", path, reason) for path, reason in gc_cache.unused(context)]


def _kept_back(context: Context) -> tuple[str, ...]:
    trials = [f"environments: {tx.txid} is on trial and may be about to use one" for tx in _trials(context)]
    others = [f"environments: `gov {work.command}` (pid {work.pid}) is at work" for work in unrecorded.living(context)]
    return (*trials, *others, *gc_cache.missing_homes(), *gc_cache.idle_models())


def _trials(context: Context) -> list[TxSummary]:
    return [
        tx
        for tx in context.transactions.summaries()
        if tx.status == "running" and identity.is_same_process(tx.owner_pid, tx.owner_started)
    ]


def _environments(context: Context, doomed: list[str]) -> Iterator[Path]:
    """Sealed generations that nothing names."""
    needed = _needed(context, doomed)
    for path in _entries(context.home.venvs):
        if path.name not in needed and not path.is_symlink() and (path / SEAL_FILE).is_file():
            yield path


def _needed(context: Context, doomed: list[str]) -> set[str]:
    """Generations that head, a kept snapshot, ComfyUI or a candidate stands on. A snapshot that cannot be
    read is an error: what it needs is not known."""
    kept = [name for name in context.snapshots.ids() if name not in doomed]
    needed = {context.snapshots.meta(name).generation for name in kept}
    needed.add(context.snapshots.require_head().generation)
    running = production.running(context)
    if running is not None:
        needed.add(running.generation)
    links = (path for path in _entries(context.home.candidates) if path.is_symlink())
    records = (tx.txid for tx in context.transactions.summaries() if tx.status not in _CLOSED and tx.node_id)
    plans = (context.transactions.load(txid).promotion_plan for txid in records)
    return needed | {path.resolve().name for path in links} | {plan.generation for plan in plans if plan}


def _candidates(context: Context) -> Iterator[Path]:
    open_now = _open_transactions(context)
    for path in _entries(context.home.candidates):
        if re.fullmatch(r"tx\d+", path.name) and path.name not in open_now:
            yield path


def _work(context: Context) -> Iterator[Path]:
    """state/work is ours alone: what stays is the work of open transactions, the trees of trials, and what a living
    command without a record works on."""
    open_now = _open_transactions(context)
    on_trial = {tx.txid for tx in _trials(context)}
    for path in _entries(context.home.work):
        txid, _, rest = path.name.partition("-")
        stays = txid in (on_trial if rest else open_now) or unrecorded.is_living(path.name)
        if not stays and not path.name.startswith("."):
            yield path


def _open_transactions(context: Context) -> set[str]:
    return {tx.txid for tx in context.transactions.summaries() if tx.status not in _CLOSED}


def _leftovers(context: Context) -> Iterator[Path]:
    """Names that our own steps use under way, of processes that are dead. The lock is ours: whoever else
    works in this home is a trial, and lives."""
    home = context.home
    state = (home.state, *(home.state / name for name in ("transactions", "conflicts", "work", "logs")))
    for directory in (home.root, *state, home.snapshots, home.venvs, home.candidates, home.comfyui, home.custom_nodes):
        for path in _entries(directory):
            pid = fs.leftover_of(path.name)
            if pid is not None and identity.started_at(pid) is None:
                yield path
    yield from (path for folder in models_folders.folders_below(home.models) for path in fs.leftovers(folder))
    half_made = re.compile(r"\..+\.comfygov-staging\.disabled")
    yield from (path for path in _entries(home.custom_nodes) if half_made.fullmatch(path.name))
    staging = home.comfyui.with_name(f".{home.comfyui.name}.comfygov-staging")
    if staging.is_dir() and home.comfyui.is_dir():
        yield staging


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() and not directory.is_symlink() else []
