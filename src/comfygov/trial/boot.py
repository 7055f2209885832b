"""Starting a ComfyUI, waiting until it is ready, and ending it with everything that it started."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import desk, process
from comfygov.ports.comfy_api import ComfyApi, free_port, listening_socket
from comfygov.ports.desk import Answer, Desk, Event
from comfygov.trial import command, health
from comfygov.trial.limits import Limits
from comfygov.trial.sandbox import Door, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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
    limits: Limits = field(default_factory=Limits)
    watch: Watch | None = None

    @property
    def script_log(self) -> Path:
        """What the last script said. It lies where no script can put a link in its place: we read it outside of the
        box, with the person's own rights."""
        return self.stdout.with_name(f"{self.stdout.name.split('.stdout')[0]}.script.log")


@dataclass(frozen=True)
class Watch:
    """How a trial is observed: `desk` is a folder that it cannot write, `events` the log, `answer` replies to
    installs, and Python looks for packages in `extra` first."""

    desk: Path
    events: Path
    answer: Callable[[Event], Answer]
    extra: Path

    def variables(self, tree: Path, path: str, pack: str) -> dict[str, str]:
        """What processes inside need to know, and the stand-ins for installers before everything on `path`."""
        return {
            "COMFYGOV_DESK": str(self.desk),
            "COMFYGOV_PROGRAMS": str(self.desk / "bin"),
            "COMFYGOV_CUSTOM_NODES": str(tree / "custom_nodes"),
            "COMFYGOV_PACK": pack,
            "PYTHONPATH": f"{desk.PYTHON_PATH}{os.pathsep}{self.extra}",
            "PATH": f"{self.desk / 'bin'}{os.pathsep}{path}",
        }

    def open(self, packs: Sequence[str]) -> Desk:
        desk.write_programs(self.desk / "bin")
        return Desk(self.desk, self.events, self.answer, frozenset(packs))


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


def environment(plan: BootPlan, pack: str = "") -> dict[str, str]:
    """The variables of a trial: an allow-list, and a home and temporary directory of its own. `pack` is the one
    that what is started belongs to."""
    home, temporary = plan.work / "home", plan.work / "tmp"
    for directory in (home, temporary):
        if directory.is_symlink() or not directory.is_dir():
            directory.unlink(missing_ok=True)  # a script before this one put something else there
        directory.mkdir(parents=True, exist_ok=True)
    allowed = {name: value for name, value in os.environ.items() if command.may_see(name, value)}
    path = f"{plan.environment / 'bin'}:{allowed.get('PATH', '/usr/bin:/bin')}"
    return {
        **allowed,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "VIRTUAL_ENV": str(plan.environment),
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "COMFYUI_PATH": str(plan.tree),
        **(plan.watch.variables(plan.tree, path, pack) if plan.watch else {}),
    }


@dataclass(frozen=True)
class Ended:
    """A program of a trial that has ended, and the last lines that it said. The code is None after a timeout."""

    exit_code: int | None
    lines: tuple[str, ...]


def run_script(plan: BootPlan, argv: Sequence[str], cwd: Path, pack: str = "") -> Ended:
    """Run a program in the sandbox of the trial to its end; whatever it leaves running is ended too."""
    log = plan.script_log
    log.unlink(missing_ok=True)
    box = replace(plan.sandbox, view=plan.sandbox.view.with_arguments(argv))
    with _running(replace(plan, sandbox=box), argv, cwd, log, pack=pack) as service:
        exit_code = service.wait(plan.timeout_seconds)
    said = tail(log)
    return Ended(_own_code(plan, exit_code), (*said, plan.limits.broken) if plan.limits.broken else said)


@contextmanager
def _running(
    plan: BootPlan,
    argv: Sequence[str],
    cwd: Path,
    stdout: Path,
    stderr: Path | None = None,
    door: Door | None = None,
    pack: str = "",
) -> Iterator[process.Service]:
    """A program in the sandbox and the limits of the trial, for the block; then it and all it started are gone."""
    process.become_subreaper()
    plan.limits.broken = ""
    with plan.watch.open(plan.packs) if plan.watch else nullcontext(), plan.limits.group(plan.run_id) as grouped:
        service = process.start_service(
            [*grouped, *plan.sandbox.wrap(argv, [plan.work], door)],
            cwd=cwd,
            env=environment(plan, pack),
            run_id=plan.run_id,
            stdout=stdout,
            stderr=stderr,
            descriptors=[door.descriptor] if door and door.descriptor >= 0 else (),
        )
        try:
            logs = [stdout, *([stderr] if stderr else [])]
            with plan.limits.watched(lambda: process.below(service.pid), plan.work, lambda: _kill(service), logs):
                yield service
        finally:
            service.stop(signal.SIGTERM if stderr else signal.SIGKILL, _STOP_GRACE_SECONDS if stderr else 0.0)
            process.end_marked(plan.run_id)


def _kill(service: process.Service) -> None:
    process.end_tree(service.pid, service.run_id, signal.SIGKILL, 0.0, since=service.started)


def _own_code(plan: BootPlan, exit_code: int | None) -> int | None:
    """bubblewrap ends with 128 + N where its command was ended by signal N."""
    boxed = plan.sandbox.name == "bwrap" and exit_code is not None and 128 < exit_code <= 128 + signal.NSIG
    return 128 - exit_code if boxed and exit_code is not None else exit_code


@contextmanager
def booted(plan: BootPlan) -> Iterator[Booted]:
    """A ComfyUI that is ready, for the block; afterwards its whole process tree is gone.

    Raises BootFailed with the reason and the tail of its log.
    """
    listener = listening_socket(command.DEFAULT_HOST) if plan.sandbox.needs_relay else None
    door = Door(listener.getsockname()[1], listener.fileno()) if listener else Door(free_port())
    argv = command.arguments(
        plan.python,
        packs=plan.packs,
        host=command.DEFAULT_HOST,
        port=door.port,
        model_paths=plan.model_paths,
        extra=plan.extra_args,
    )
    try:
        with _running(plan, argv, plan.tree, plan.stdout, plan.stderr, door) as service:
            if listener:
                listener.close()
            api = ComfyApi(command.DEFAULT_HOST, door.port)
            seconds = wait_until_ready(api, service, plan.timeout_seconds, plan.stderr)
            yield Booted(api, _read_health(api, service, plan, seconds), service)
    except BootFailed as failure:
        raise _explained(plan, failure) from failure.__cause__
    finally:
        if listener:
            listener.close()


def _explained(plan: BootPlan, failure: BootFailed) -> BootFailed:
    """The failure with what the sandbox knows of it: a bound that was broken, the signal behind an exit code."""
    code = _own_code(plan, failure.boot_exit_code)
    if plan.limits.broken:
        return BootFailed(f"ComfyUI was ended: {plan.limits.broken}", failure.hint, failure.details, code)
    if code == failure.boot_exit_code or code is None:
        return failure
    message = failure.message.replace(f"exit code {failure.boot_exit_code}", f"signal {-code}")
    return BootFailed(message, failure.hint, failure.details, code)


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
                f"ComfyUI did not become ready in {timeout_seconds:g} s",
                f"give it more time with --timeout; the whole log is {log}",
                tail(log),
                None,
            )
        time.sleep(_POLL_SECONDS)


def _ended(exit_code: int, log: Path) -> BootFailed:
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    lines = tail(log)
    missing = missing_module("\n".join(lines))
    reason = f"it needs the Python module `{missing}`, which is not there" if missing else how
    is_cut_off = any("marshal data too short" in line for line in lines)
    hint = "gov sync removes bytecode that a full disk cut off" if is_cut_off else f"the whole log is {log}"
    return BootFailed(f"ComfyUI ended while it started: {reason}", hint, lines, exit_code)


def missing_module(text: str) -> str:
    """The module whose absence ended a Python program; an empty string when it was something else."""
    found = re.findall(r"^ModuleNotFoundError: No module named '([^']+)'", text, re.MULTILINE)
    return found[-1].split(".")[0] if found else ""


def read_log(plan: BootPlan) -> str:
    """Both streams: ComfyUI logs to standard error unless told otherwise."""
    return "\n".join(end_of(path) for path in (plan.stderr, plan.stdout))


def tail(log: Path) -> tuple[str, ...]:
    """The last lines, without ComfyUI's list of model folders, which hides what ended it."""
    said = [line for line in end_of(log).splitlines() if not line.startswith("Adding extra search path")]
    return tuple(said[-_TAIL_LINES:])


def end_of(log: Path) -> str:
    """The last part of a log: a pack may print without end."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _MAX_LOG_BYTES))
        return file.read(_MAX_LOG_BYTES).decode(errors="replace")
