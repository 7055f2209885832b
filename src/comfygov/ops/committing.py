"""The way every change takes to production: obstacles, objects, environment, snapshot, head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ops import locking, production
from comfygov.ports import clones, fs
from comfygov.truth import audit, checkouts, commit, rescue
from comfygov.truth.snapshots import Origin

if TYPE_CHECKING:
    from comfygov.model.state import Head, RunRecord
    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State


def commit_state(
    context: Context,
    state: State,
    origin: Origin,
    *,
    before: Origin | None = None,
    approved: tuple[str, ...] = (),
    restart: bool = False,
    touched: frozenset[str] = frozenset(),
) -> commit.Committed:
    """Make `state` production in one atomic step, after a snapshot `before` of what it is now.

    The lock is held by the caller. Everything that can fail is done before head is written. With
    `restart` a running ComfyUI is stopped before and started again after; without, a change of code
    under it is refused.
    """
    head = context.snapshots.head()
    now = context.snapshots.read(head.snapshot) if head else None
    if now is not None:
        checkouts.refuse_no_comfyui(context.home, context.git, now)
    checkouts.refuse_foreign(context.home, context.git, state, now)
    checkouts.fetch_missing(context.home, context.git, state)
    checkouts.refuse_obstacles(context.home, context.git, state)
    _say_what_moves_back(context, state, head)
    locking.ensure_generation(context, state, head.generation if head else None)
    keep_hand_edits(context)
    running = production.running(context) if restart else code_under_running(context, state, touched)
    if running and not restart:
        raise GovError(
            Code.RUNNING,
            f"ComfyUI runs (pid {running.pid}) and this change would replace code under it",
            "add --restart, or `gov stop` first",
        )
    try:
        if running:
            production.stop(context)
        done = _commit(context, state, origin, approved, before)
    except BaseException as error:
        if running and context.snapshots.pending() is None:
            start_anew(context, running)
        elif running and isinstance(error, KeyboardInterrupt):
            raise _stopped(context) from None
        raise
    if running:
        _start_or_go_back(context, running, head)
    elif production.running(context) is not None:
        context.progress.note("ComfyUI still runs what it was started with: gov stop, gov run loads the change")
    retain(context, frozenset(made.id for made in (done.meta, done.pre) if made))
    return done


def _say_what_moves_back(context: Context, state: State, head: Head | None) -> None:
    """Code that somebody moved to another commit by hand goes back to the one that is governed: not in silence."""
    now = checkouts.targets(context.home, context.snapshots.read(head.snapshot)) if head else ()
    governed = {checkout: commit_id for _, checkout, _, commit_id in now}
    for name, checkout, _, commit_id in checkouts.targets(context.home, state):
        at = context.git.head(checkout)
        if at is not None and at not in (commit_id, governed.get(checkout, at)):
            where = f"{name} was moved by hand to {at[:10]} and goes back to {commit_id[:10]}"
            context.progress.warn(f"{where}; your commit stays known to git there")


def _start_or_go_back(context: Context, running: RunRecord, before: Head | None) -> None:
    """Start the ComfyUI that was stopped for the change; one that does not come up undoes the change."""
    try:
        production.start_again(context, running)
    except KeyboardInterrupt:
        raise _stopped(context) from None
    except (GovError, OSError) as error:
        if before is None:
            raise
        failure = error if isinstance(error, GovError) else fs.explain_os_error(error)
        origin = Origin("rollback_post", f"ComfyUI did not start again: {failure.message}")
        _commit(context, context.snapshots.read(before.snapshot), origin)
        message = f"ComfyUI did not start on the new state, so production is again what {before.snapshot} was"
        try:
            production.start_again(context, running)
        except (GovError, OSError) as again:
            message += f"; there it did not start either ({again}), so it is stopped"
        raise GovError(Code.PROMOTE_FAILED, message, failure.hint, failure.details) from error


def start_anew(context: Context, running: RunRecord) -> None:
    """Stop ComfyUI, if it has not ended, and start it as it ran; an interrupt says that it is stopped."""
    try:
        if production.running(context) is not None:
            production.stop(context)
        production.start_again(context, running)
    except KeyboardInterrupt:
        raise _stopped(context) from None


def _stopped(context: Context) -> GovError:
    now = context.snapshots.require_head().snapshot
    message = f"interrupted while ComfyUI started again, so it is stopped; production is {now}"
    return GovError(Code.INTERRUPTED, message, "gov run --detach, with the arguments that it had")


def _commit(
    context: Context, state: State, origin: Origin, approved: tuple[str, ...] = (), before: Origin | None = None
) -> commit.Committed:
    line = audit.entry(context.command, origin.kind, reason=origin.reason, approved=approved, txid=origin.txid)
    return commit.commit(context.truth, state, origin, line, before)


def code_under_running(context: Context, state: State, touched: frozenset[str] = frozenset()) -> RunRecord | None:
    """The running ComfyUI, when `state` has other commits of what it has loaded, or the change touches it."""
    running = production.running(context)
    if running is None:
        return None
    loaded = {"ComfyUI", *(p.id for p in context.snapshots.read(running.snapshot).registry.enabled())}
    if loaded & touched:
        return running
    for name, checkout, _, commit_id in checkouts.targets(context.home, state):
        if name in loaded and checkout.exists() and not clones.in_place(context.git, checkout, commit_id):
            return running
    return None


def keep_hand_edits(context: Context) -> None:
    """Truth files are written by comfygov; what a person wrote into one is kept aside before it goes."""
    aside = rescue.place(context.home)
    for name in rescue.keep_hand_edits(context.home, aside):
        where = context.home.relative(aside / name)
        context.progress.warn(f"{name} was edited by hand; your version is in {where}")


def retain(context: Context, keep: frozenset[str]) -> None:
    """Delete the oldest snapshots beyond `rollback.snapshot_retention`.

    Never head, the one before it, those in `keep` (just made), what ComfyUI runs from, nor the base of a
    transaction that may still be promoted. The change is committed: a failure here is a warning.
    """
    try:
        for name in excess(context, keep):
            context.snapshots.delete(name)
    except (OSError, GovError) as error:
        context.progress.warn(f"old snapshots could not be removed: {error}")


def excess(context: Context, keep: frozenset[str]) -> list[str]:
    """The oldest snapshots that retention gives up."""
    head = context.snapshots.require_head()
    running = production.running(context)
    needed = {*keep, head.snapshot, head.previous, running.snapshot if running else None}
    needed |= {tx.base_snapshot for tx in context.transactions.summaries() if tx.status not in ("promoted", "aborted")}
    ids = context.snapshots.ids()
    count = len(ids) - max(1, context.config.rollback.snapshot_retention)
    return [name for name in ids if name not in needed][: max(0, count)]
