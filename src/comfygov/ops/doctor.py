"""`gov doctor`: what this machine can do for comfygov, and how to get the rest. It changes nothing.

A check is a function in CHECKS that yields what it found; it gets the home, if there is one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import msgspec

from comfygov.delivery.image.engine import ENGINES, Engine
from comfygov.errors import GovError
from comfygov.ops import doctor_network, doctor_places, doctor_sandbox
from comfygov.ops.doctor_check import Check
from comfygov.ports import process
from comfygov.ports.uv import Uv, find_binary
from comfygov.resolve import torch_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfygov.ops.context import Context

_TOOL_SECONDS = 20.0


class Examined(msgspec.Struct, frozen=True):
    home: str | None
    checks: tuple[Check, ...]


def examine(context: Context | None, *, offline: bool = False) -> Examined:
    """Run every check; `offline` asks no server."""
    looks = CHECKS if offline else (*CHECKS, doctor_network.network)
    found = tuple(check for look in looks for check in look(context))
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


def _gpu(context: Context | None) -> Iterator[Check]:
    driver = torch_backend.nvidia_driver()
    if driver is not None:
        yield Check("gpu", "pass", f"NVIDIA driver {driver}: trials see the GPU too")
    elif torch_backend.has_accelerator(sys.platform):
        yield Check("gpu", "pass", "there is one that ComfyUI can use: trials see it too")
    else:
        yield Check("gpu", "pass", "none that is known: ComfyUI runs with --cpu")
    if context and context.snapshots.head():
        yield from torch_check(context.head_state().baseline.pytorch_version, driver)


def torch_check(version: str, driver: int | None) -> Iterator[Check]:
    """Whether the torch of a home (`2.11.0+cu130`) and the NVIDIA driver of this machine fit each other."""
    build = version.partition("+")[2]
    needed = torch_backend.driver_for(build)
    if driver is None or not build or (needed is None and build != "cpu"):
        return
    fitting = torch_backend.detect(sys.platform)
    advice = (f'[python] torch_backends = ["{fitting}"] in config.toml, then gov tx run --upgrade torch',)
    if needed is None:
        yield Check("torch", "warn", f"torch {version} is built for the processor, and there is a GPU", (), advice)
    elif driver < needed:
        words = f"torch {version} needs NVIDIA driver {needed} or newer, and this machine has {driver}"
        yield Check("torch", "warn", words, (), ("update the driver", *advice))
    else:
        yield Check("torch", "pass", f"torch {version} fits NVIDIA driver {driver}")


def _engines(_: Context | None) -> Iterator[Check]:
    """What `gov image build` could use; nothing else needs one."""
    reasons = {name: Engine(name).answers() for name in ENGINES}
    usable = [name for name, reason in reasons.items() if not reason]
    words = f"images can be built with {', '.join(usable)}" if usable else "none: images are built elsewhere"
    why = tuple(f"{name} {reason}" for name, reason in reasons.items() if reason)
    advice = () if usable else ("install docker, podman or buildah for gov image build; gov image context needs none",)
    yield Check("engines", "pass", words, why, advice)


CHECKS: tuple[Callable[[Context | None], Iterator[Check]], ...] = (
    _sandbox,
    _git,
    _uv,
    _gpu,
    doctor_places.disk,
    doctor_places.file_system,
    _engines,
)
