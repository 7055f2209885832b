"""Named moments at which a fault test ends, signals or hinders this process; otherwise they cost nothing.

`COMFYGOV_FAULT` is the plan: `ACTION@NAME` or `ACTION@NAME#N` (at the Nth time), several with commas.
`kill`, `term`, `int` and `stop` send the signal, `tree` kills the children too, `full` is a disk without space.
`trace@FILE` writes down every moment that comes; `clock@SECONDS` sets the wall clock off.
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass, field

VARIABLE = "COMFYGOV_FAULT"

_SIGNALS = {
    "kill": signal.SIGKILL,
    "tree": signal.SIGKILL,
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
    "stop": signal.SIGSTOP,
}

POINTS: dict[str, str] = {
    "lock.held": "the home's lock is taken",
    "write.staged": "a file's new content lies beside it",
    "write.replaced": "a file has its new content",
    "link.staged": "a link's new target lies beside it",
    "link.flipped": "a link has its new target",
    "line.appended": "a line is behind the others",
    "tree.doomed": "a directory that goes has lost its name",
    "init.settings": "a home to be has its settings",
    "init.code": "ComfyUI's code is there",
    "snapshot.staged": "a snapshot is written under another name",
    "snapshot.made": "a snapshot has its name",
    "commit.marked": "it is written down what is about to happen",
    "head.written": "head names the new state",
    "checkout.staged": "a checkout is made under another name",
    "checkout.placed": "a checkout has its name",
    "checkout.moving": "a checkout knows the commit that it is to be at",
    "checkout.moved": "a checkout is at its commit",
    "commit.materialised": "the disk is what head says",
    "commit.recorded": "the audit line is written",
    "generation.begun": "an environment has the links to its base",
    "generation.synced": "uv is done with an environment",
    "generation.marked": "an environment has its seal and not its name",
    "generation.aside": "a damaged environment has lost its name",
    "generation.sealed": "an environment has its name",
    "trial.opened": "a transaction has its record",
    "trial.prepared": "environment and tree of a trial are there",
    "trial.booted": "ComfyUI answers in a trial",
    "promote.sealed": "what was tried is a generation",
    "comfyui.started": "ComfyUI is a process that is not written down yet",
    "comfyui.launched": "ComfyUI is started and does not answer yet",
    "promote.committed": "a promote is committed and its record does not say so yet",
    "purge.begun": "a pack is removed, its folder is about to go",
    "gc.removing": "something unused is about to go",
}
"""Every moment, in the order in which most commands pass them."""

MODEL_POINTS: dict[str, str] = {
    "fetch.begun": "a download has its unfinished file",
    "fetch.saved": "it is written down how far a download has come",
    "fetch.whole": "every byte of a download has arrived",
    "blob.checked": "a download has the right sum and not its name",
    "blob.stored": "a model is in the cache",
    "model.staged": "a model lies beside its place",
    "model.placed": "a model is in its place",
}
"""Moments of `gov models` alone."""

SUBMODULE_POINTS: dict[str, str] = {
    "submodule.leaving": "a submodule that is none any more names no commit, and has its files",
    "submodule.emptied": "its files are gone, and its repository is there",
    "submodule.gone": "its repository has lost its name",
    "submodule.staged": "the repository of a new submodule lies in the one around it",
    "submodule.placed": "it has its place, and no files",
}
"""Moments of a checkout whose submodules come or go."""

VERSION_POINTS: dict[str, str] = {
    "clone.objects": "a clone has every commit in the cache, and no code",
    "clone.code": "a clone has its code and its environment, under another name, and no state",
    "clone.environment": "a clone has its first state, under another name",
    "clone.proven": "a clone is proven and has not its name",
    "clone.named": "a clone has its name",
}
"""Moments of `gov version` alone."""


@dataclass
class _Fault:
    action: str
    name: str
    count: int
    seen: int = field(default=0)


def _read_plan(text: str) -> list[_Fault]:
    plan = []
    for part in filter(None, text.split(",")):
        action, _, rest = part.partition("@")
        name, _, count = rest.partition("#")
        plan.append(_Fault(action, name, int(count or 1)))
    return plan


_plan = _read_plan(os.environ.get(VARIABLE, ""))

clock_offset_seconds = sum(float(fault.name) for fault in _plan if fault.action == "clock")


def point(name: str) -> None:
    """The moment `name` has come."""
    for fault in _plan:
        if fault.action == "trace":
            _trace(fault.name, name)
        elif fault.name == name:
            fault.seen += 1
            if fault.seen == fault.count:
                _strike(fault.action, name)


def _trace(file: str, name: str) -> None:
    with open(file, "a", encoding="utf-8") as trace:  # noqa: PTH123 (no pathlib on the way to `gov --help`)
        trace.write(f"{name}\n")


def _strike(action: str, name: str) -> None:
    if action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    if action == "tree":
        _kill_children()
    os.kill(os.getpid(), _SIGNALS[action])


def _kill_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        child.kill()
