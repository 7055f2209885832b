"""Work in state/work that is no trial (of `gov bisect`, `gov outdated`, `gov resolve --suggest`): its name says whose
it is."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from comfygov.ops.context import trial_run_id
from comfygov.ports import fs, identity, process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context

_NAME = re.compile(r"((?P<command>bisect|outdated|resolve)-(?P<pid>\d+)-(?P<started>\d+))(-.*)?")
_PER_SECOND = 100
"""A start is written down in hundredths of a second: what the kernel counts in (proc_pid_stat(5))."""


@dataclass(frozen=True)
class Work:
    """What a process works on: everything in state/work that is called `name` or begins with `name-`."""

    name: str
    command: str
    pid: int
    started: float

    def is_living(self) -> bool:
        return identity.is_same_process(self.pid, self.started)


@contextmanager
def working(context: Context, command: Literal["bisect", "outdated", "resolve"]) -> Iterator[str]:
    """A name for what the block does; its directory is there, and everything of that name is gone afterwards."""
    pid = os.getpid()
    name = f"{command}-{pid}-{round((identity.started_at(pid) or 0.0) * _PER_SECOND)}"
    _remove(context, name)
    (context.home.work / name).mkdir(parents=True)
    try:
        yield name
    finally:
        _remove(context, name)


def is_living(entry: str) -> bool:
    """True for the name of an entry of state/work whose process lives."""
    work = _read(entry)
    return work is not None and work.is_living()


def living(context: Context) -> list[Work]:
    return [work for work in _all(context) if work.is_living()]


def clear_dead(context: Context) -> None:
    """End what commands that died left running, and take their work away. The home's lock is held."""
    for work in _all(context):
        if not work.is_living():
            process.end_marked(trial_run_id(context, work.name))
            _remove(context, work.name)
            context.progress.note(f"what a `gov {work.command}` that was killed left is cleared away")


def _all(context: Context) -> list[Work]:
    found = {_read(entry) for entry in _entries(context)}
    return sorted((work for work in found if work is not None), key=lambda work: work.name)


def _read(entry: str) -> Work | None:
    match = _NAME.fullmatch(entry)
    if match is None:
        return None
    return Work(match[1], match["command"], int(match["pid"]), int(match["started"]) / _PER_SECOND)


def _remove(context: Context, name: str) -> None:
    for entry in _entries(context):
        work = _read(entry)
        if work is not None and work.name == name:
            fs.remove_tree(context.home.work / entry)


def _entries(context: Context) -> list[str]:
    return sorted(os.listdir(context.home.work)) if context.home.work.is_dir() else []
