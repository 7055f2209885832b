"""`gov bisect start`: which change broke it. Production is only read."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import AuditEntry, SnapshotMeta
from comfygov.ops import bisect_check, history, unrecorded
from comfygov.ops.bisect_check import Check, Judgement
from comfygov.ops.bisect_walk import Verdict, Walk
from comfygov.ports import clock
from comfygov.truth import audit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State


class BisectRequest(msgspec.Struct, frozen=True):
    """`check` is a command, or one file of a workflow; `timeout_seconds` is for each boot and each check."""

    bad: str
    good: str
    check: tuple[str, ...]
    timeout_seconds: float | None = None


class Step(msgspec.Struct, frozen=True):
    """One state that was looked at; `left` more lay between good and bad then. `log` starts at the home."""

    snapshot: str
    verdict: Verdict
    reason: str
    seconds: float
    left: int
    log: str
    built: bool


class Change(msgspec.Struct, frozen=True):
    """What made a snapshot, and who did it. `missing` are numbers of snapshots before it that are not there any
    more: the change may have been theirs."""

    snapshot: SnapshotMeta
    actor: str
    host: str
    command: str
    missing: tuple[int, ...]


class BisectResult(msgspec.Struct, frozen=True):
    """`changes` has one entry when the culprit is found; more are suspects, between which states were skipped.

    `last_good` and `first_bad` stand on both sides of it. With `mended` the bad state is the older one, and
    the change is the one that helped. `difference` goes from the older to the newer of the two sides.
    """

    good: str
    bad: str
    check: str
    mended: bool
    states: int
    steps: tuple[Step, ...]
    last_good: str
    first_bad: str
    changes: tuple[Change, ...]
    difference: history.StateDifference
    logs: str
    seconds: float


@dataclass(frozen=True)
class Candidate:
    """Neighbouring snapshots that no check can tell apart, oldest first; `shown` is the one that speaks for them,
    `made` the first. `last` is the newest: a pack that is only registered makes no difference to a check."""

    ids: tuple[str, ...]
    state: State
    last: State
    key: str
    shown: str
    made: SnapshotMeta


@dataclass
class Search:
    """A search under way. `name` is that of its work and of its processes."""

    context: Context
    check: Check
    row: Sequence[Candidate]
    walk: Walk
    name: str
    logs: Path
    timeout_seconds: float | None
    steps: list[Step]

    def judge(self, place: int) -> Judgement:
        """Run the check on one state, and say so in a line."""
        candidate, progress, started = self.row[place], self.context.progress, time.monotonic()
        progress.begin(candidate.shown)
        log = self.logs / f"{len(self.steps) + 1:02d}-{candidate.shown}"
        try:
            found = bisect_check.judge(self.context, self.check, candidate.state, self.name, log, self.timeout_seconds)
        except BaseException:
            progress.end(candidate.shown, time.monotonic() - started, ok=False)
            raise
        took = time.monotonic() - started
        self.walk.tell(place, found.verdict)
        verdict, left = "skipped" if found.verdict == "skip" else found.verdict, self.walk.left()
        progress.end(f"{candidate.shown} is {verdict}, {_states(left)} left", took, ok=True)
        kept = self.context.home.relative(found.log) if found.log else ""
        self.steps.append(Step(candidate.shown, found.verdict, found.reason, round(took, 3), left, kept, found.built))
        return found


def _states(count: int) -> str:
    return f"{count} state{'' if count == 1 else 's'}"


def start(context: Context, request: BisectRequest) -> BisectResult:
    """Find the change between GOOD and BAD; raises `wrong_state` when they are not what they are said to be."""
    began = time.monotonic()
    with unrecorded.working(context, "bisect") as name:
        good, bad = context.snapshots.resolve(request.good), context.snapshots.resolve(request.bad)
        row = _row(context, good, bad)
        states = [candidate.state for candidate in row]
        bisect_check.refuse_damaged_production(context, states)
        check = bisect_check.read(request.check, [context.generations.path(state.generation) for state in states])
        logs = context.home.logs / f"bisect-{clock.now().replace(':', '')}-{os.getpid()}"
        walk = Walk([candidate.key for candidate in row])
        search = Search(context, check, row, walk, name, logs, request.timeout_seconds, [])
        _verify(search, len(row) - 1, "bad")
        _verify(search, 0, "good")
        while (place := walk.next()) is not None:
            search.judge(place)
    return _result(search, (good, bad), time.monotonic() - began)


def _row(context: Context, good: str, bad: str) -> list[Candidate]:
    """The distinct states from the good one to the bad one."""
    ids = context.snapshots.ids()
    ends = sorted((ids.index(good), ids.index(bad)))
    known = [(name, context.snapshots.read(name)) for name in ids[ends[0] : ends[1] + 1]]
    row = []
    for key, members in groupby(known, key=lambda pair: _key(pair[1])):
        group = dict(members)
        names = tuple(group)
        shown = next((end for end in (good, bad) if end in names), names[0])
        row.append(Candidate(names, group[names[0]], group[names[-1]], key, shown, context.snapshots.meta(names[0])))
    if row[0].key == row[-1].key:
        same = "one snapshot" if good == bad else "the same state"
        message = f"{good} and {bad} are {same}: there is no change to find"
        raise GovError(Code.WRONG_STATE, message, "gov snapshot list")
    return row if ids.index(good) < ids.index(bad) else row[::-1]


def _key(state: State) -> str:
    """What a check can see of a state: environment, declared truth, and the code that is loaded."""
    packs = [f"{plugin.id} {plugin.source} {plugin.commit}" for plugin in state.registry.enabled()]
    code = "\n".join([state.generation, state.comfyui_commit, *packs])
    return hashlib.sha256(b"\0".join((code.encode(), state.pyproject, state.uv_lock))).hexdigest()


def _verify(search: Search, place: int, wanted: Verdict) -> None:
    """The ends must be what they are said to be: halving would name some change in any case."""
    found = search.judge(place)
    if found.verdict == wanted:
        return
    name, log = search.row[place].shown, f"the whole log is {found.log}" if found.log else ""
    lines = tuple(line for line in (*found.lines, log) if line)
    if found.verdict == "skip":
        message = f"{name} cannot be judged: the check says so ({found.reason})"
        message = message if found.log else f"{name} cannot be judged: {found.reason}"
        raise GovError(Code.WRONG_STATE, message, "name another snapshot: gov snapshot list", lines)
    found_out = "the check passes" if found.verdict == "good" else "the check fails"
    message = f"{name} is {found.verdict}, not {wanted}: {found_out} there ({found.reason})"
    raise GovError(Code.WRONG_STATE, message, _advice(search.check, wanted), lines)


def _advice(check: Check, wanted: Verdict) -> str:
    """A check that fails where it should pass may only look for its files in the wrong place."""
    if wanted == "good" and check.argv:
        from pathlib import Path

        here = [word for word in check.argv[1:] if not Path(word).is_absolute() and Path(word).is_file()]
        if here:
            return f"the check runs in a private copy of ComfyUI: give the whole path, {Path(here[0]).absolute()}"
    how = "passes" if wanted == "good" else "fails"
    return f"name a snapshot where the check {how}: gov snapshot list"


def _result(search: Search, ends: tuple[str, str], seconds: float) -> BisectResult:
    context, row, walk = search.context, search.row, search.walk
    mended = _number(row[0]) > _number(row[-1])
    between = list(row[walk.low : walk.high + 1])
    in_time = between[::-1] if mended else between
    older, newer = in_time[0], in_time[-1]
    lines = audit.entries(context.home.audit_file)
    return BisectResult(
        good=ends[0],
        bad=ends[1],
        check=search.check.shown,
        mended=mended,
        states=len(row),
        steps=tuple(search.steps),
        last_good=newer.ids[0] if mended else older.ids[-1],
        first_bad=older.ids[-1] if mended else newer.ids[0],
        changes=tuple(_change(before, after, lines) for before, after in pairwise(in_time)),
        difference=history.compare(older.ids[-1], older.last, newer.ids[0], newer.state),
        logs=context.home.relative(search.logs),
        seconds=round(seconds, 3),
    )


def _change(before: Candidate, after: Candidate, lines: Sequence[AuditEntry]) -> Change:
    """The first line that names a snapshot is that of the command that made it."""
    line = next((line for line in lines if line.after == after.made.id), None)
    who = (line.actor, line.host, line.command) if line else ("", "", "")
    last = int(before.ids[-1].split("-")[0])
    return Change(after.made, *who, tuple(range(last + 1, after.made.number)))


def _number(candidate: Candidate) -> int:
    return candidate.made.number
