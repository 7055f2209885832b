"""`gov doctor`: what this machine can do for comfygov, and how to get the rest. It changes nothing.

A check is a function in CHECKS that yields what it found; it gets the home, if there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from comfygov.errors import GovError
from comfygov.ops import doctor_sandbox
from comfygov.ports import fs, process
from comfygov.ports.uv import Uv, find_binary
from comfygov.resolve import torch_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfygov.ops.context import Context

_TOOL_SECONDS = 20.0
_LITTLE_DISK_BYTES = 10 << 30
"""An environment with torch takes about 6 GB, and a trial one more as far as it differs."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. `warn` works and could be better, `fail` keeps commands from working; `details` say
    more, `advice` what to do."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    words: str
    details: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


class Examined(msgspec.Struct, frozen=True):
    home: str | None
    checks: tuple[Check, ...]


def examine(context: Context | None) -> Examined:
    """Run every check."""
    found = tuple(check for look in CHECKS for check in look(context))
    return Examined(str(context.home.root) if context else None, found)


def _sandbox(context: Context | None) -> Iterator[Check]:
    """What `[tx] sandbox = "auto"` comes to, with the network denied: the most that can be asked for."""
    report = doctor_sandbox.report()
    words = {"none": "there is none: a pack on trial can do what you can do"}
    loose = bool(report.does_not_hold)
    yield Check(
        "sandbox",
        "warn" if loose or report.advice else "pass",
        words.get(report.chosen, f"trials run under {report.chosen}"),
        (
            *(f"held: {line}" for line in report.holds),
            *(f"not held: {line}" for line in report.does_not_hold),
            f"memory and processes are bounded by {report.memory_limit}",
        ),
        report.advice,
    )
    wanted = context.config.tx.sandbox if context else "auto"
    if wanted not in ("auto", report.chosen):
        yield from _configured(wanted)


def _configured(wanted: Literal["bwrap", "landlock", "none", "auto"]) -> Iterator[Check]:
    """A sandbox that the settings name, where it is not the strongest that is there."""
    from comfygov.trial import sandbox

    try:
        chosen = sandbox.choose(wanted)
    except GovError as error:
        yield Check("sandbox setting", "fail", error.message, (), (error.hint,))
    else:
        yield Check(
            "sandbox setting",
            "warn",
            f"config.toml asks for {chosen.name}",
            (),
            ('`sandbox = "auto"` under [tx] takes the strongest',),
        )


def _git(_: Context | None) -> Iterator[Check]:
    try:
        said = process.run(["git", "--version"], timeout_seconds=_TOOL_SECONDS).stdout.strip()
    except GovError as error:
        yield Check("git", "fail", error.message, (), ("install git",))
    else:
        yield Check("git", "pass", said)


def _uv(_: Context | None) -> Iterator[Check]:
    try:
        yield Check("uv", "pass", f"uv {Uv().version()}", (find_binary(),))
    except GovError as error:
        yield Check("uv", "fail", error.message, (), (error.hint,))


def _gpu(_: Context | None) -> Iterator[Check]:
    driver = torch_backend.nvidia_driver()
    if driver is not None:
        yield Check("gpu", "pass", f"NVIDIA driver {driver}: trials see the GPU too")
    elif torch_backend.has_accelerator(sys.platform):
        yield Check("gpu", "pass", "there is one that ComfyUI can use: trials see it too")
    else:
        yield Check("gpu", "pass", "none that is known: ComfyUI runs with --cpu")


def _disk(context: Context | None) -> Iterator[Check]:
    place = context.home.root if context else Path.cwd()
    free = fs.free_bytes(place)
    little = free < _LITTLE_DISK_BYTES
    advice = ("gov gc --dry-run shows what can go",) if little and context else ()
    yield Check("disk", "warn" if little else "pass", f"{free / 1e9:.1f} GB are free at {place}", (), advice)


CHECKS: tuple[Callable[[Context | None], Iterator[Check]], ...] = (_sandbox, _git, _uv, _gpu, _disk)
