"""Starting a ComfyUI, waiting until it is ready, and ending it with everything that it started."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import process
from comfygov.ports.comfy_api import ComfyApi, free_port
from comfygov.trial import command, health
from comfygov.trial.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from comfygov.model.state import Baseline

_POLL_SECONDS = 0.05
_STOP_GRACE_SECONDS = 10.0
_TAIL_LINES = 25
_MAX_LOG_BYTES = 4 << 20


@dataclass(frozen=True)
class BootPlan:
    """Everything that one trial boot needs; `work` is the only directory that it may change."""

    python: str
    environment: Path
    tree: Path
    work: Path
    packs: Sequence[str]
    model_paths: Sequence[Path]
    extra_args: Sequence[str]
    sandbox: Sandbox
    timeout_seconds: float
    stdout: Path
    stderr: Path
    run_id: str


@dataclass(frozen=True)
class Booted:
    """A ComfyUI that answers, and how it came up."""

    api: ComfyApi
    health: Baseline
    service: process.Service


class BootFailed(GovError):
    """ComfyUI ended, or did not answer in time. `boot_exit_code` is None when it had to be stopped."""

    def __init__(self, message: str, hint: str, details: tuple[str, ...], boot_exit_code: int | None) -> None:
        super().__init__(Code.NOT_READY, message, hint, details)
        self.boot_exit_code = boot_exit_code


def environment(plan: BootPlan) -> dict[str, str]:
    """The variables of a trial: an allow-list, and a home and temporary directory of its own."""
    home, temporary = plan.work / "home", plan.work / "tmp"
    for directory in (home, temporary):
        directory.mkdir(parents=True, exist_ok=True)
    allowed = {name: value for name, value in os.environ.items() if command.may_see(name, value)}
    return {
        **allowed,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "VIRTUAL_ENV": str(plan.environment),
        "PATH": f"{plan.environment / 'bin'}:{allowed.get('PATH', '/usr/bin:/bin')}",
        "PYTHONUNBUFFERED": "1",
        "COMFYUI_PATH": str(plan.tree),
    }


@dataclass(frozen=True)
class Ended:
    """A program of a trial that has ended, and the last lines that it said. The code is None after a timeout."""

    exit_code: int | None
    lines: tuple[str, ...]


def run_script(plan: BootPlan, argv: Sequence[str], cwd: Path) -> Ended:
    """Run a program in the sandbox of the trial to its end; whatever it leaves running is ended too."""
    process.become_subreaper()
    log = plan.work / f"script-{time.monotonic_ns()}.log"
    service = process.start_service(
        plan.sandbox.wrap(argv, [plan.work]), cwd=cwd, env=environment(plan), run_id=plan.run_id, stdout=log
    )
    try:
        exit_code = service.wait(plan.timeout_seconds)
    finally:
        service.stop(signal.SIGKILL, 0.0)
        process.end_marked(plan.run_id)
    return Ended(exit_code, tail(log))


@contextmanager
def booted(plan: BootPlan) -> Iterator[Booted]:
    """A ComfyUI that is ready, for the block; afterwards its whole process tree is gone.

    Raises BootFailed with the reason and the tail of its log.
    """
    process.become_subreaper()
    port = free_port()
    argv = command.arguments(
        plan.python,
        packs=plan.packs,
        host=command.DEFAULT_HOST,
        port=port,
        model_paths=plan.model_paths,
        extra=plan.extra_args,
    )
    service = process.start_service(
        plan.sandbox.wrap(argv, [plan.work]),
        cwd=plan.tree,
        env=environment(plan),
        run_id=plan.run_id,
        stdout=plan.stdout,
        stderr=plan.stderr,
    )
    try:
        api = ComfyApi(command.DEFAULT_HOST, port)
        seconds = wait_until_ready(api, service, plan.timeout_seconds, plan.stderr)
        yield Booted(api, _read_health(api, service, plan, seconds), service)
    finally:
        service.stop(signal.SIGTERM, _STOP_GRACE_SECONDS)
        process.end_marked(plan.run_id)


def _read_health(api: ComfyApi, service: process.Service, plan: BootPlan, seconds: float) -> Baseline:
    try:
        return health.read(api, read_log(plan), seconds)
    except GovError as error:
        ended = service.wait(1.0)
        if ended is not None:
            raise _ended(ended, plan.stderr) from error
        raise BootFailed(error.message, f"the whole log is {plan.stderr}", tail(plan.stderr), None) from error


def wait_until_ready(api: ComfyApi, service: process.Service, timeout_seconds: float, log: Path) -> float:
    """Seconds until the API answered; raises BootFailed when the process ends or the time is over."""
    started = time.monotonic()
    while True:
        ended = service.exit_code()
        if ended is not None:
            raise _ended(ended, log)
        if api.alive() and service.listens(api.port):  # who answers may be another program on that port
            return time.monotonic() - started
        if time.monotonic() - started > timeout_seconds:
            raise BootFailed(
                f"ComfyUI did not become ready in {timeout_seconds:.0f} s",
                "give it more time with --timeout, or read the log",
                tail(log),
                None,
            )
        time.sleep(_POLL_SECONDS)


def _ended(exit_code: int, log: Path) -> BootFailed:
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    lines = tail(log)
    missing = missing_module("\n".join(lines))
    reason = f"it needs the Python module `{missing}`, which is not there" if missing else how
    return BootFailed(f"ComfyUI ended while it started: {reason}", f"the whole log is {log}", lines, exit_code)


def missing_module(text: str) -> str:
    """The module whose absence ended a Python program; an empty string when it was something else."""
    found = re.findall(r"^ModuleNotFoundError: No module named '([^']+)'", text, re.MULTILINE)
    return found[-1].split(".")[0] if found else ""


def read_log(plan: BootPlan) -> str:
    """Both streams: ComfyUI logs to standard error unless told otherwise."""
    return "\n".join(_end_of(path) for path in (plan.stderr, plan.stdout))


def tail(log: Path) -> tuple[str, ...]:
    """The last lines, without ComfyUI's list of model folders, which hides what ended it."""
    said = [line for line in _end_of(log).splitlines() if not line.startswith("Adding extra search path")]
    return tuple(said[-_TAIL_LINES:])


def _end_of(log: Path) -> str:
    """The last part of a log: a pack may print without end."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _MAX_LOG_BYTES))
        return file.read(_MAX_LOG_BYTES).decode(errors="replace")
