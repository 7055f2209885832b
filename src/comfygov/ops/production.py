"""The production ComfyUI: start, stop, restart, logs. It runs from the sealed generation's real path."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import RunRecord
from comfygov.ops import governing
from comfygov.ports import clock, faults, identity, process
from comfygov.truth import store
from comfygov.truth.home import is_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.ops.context import Context

STOP_GRACE_SECONDS = 30.0


class Started(msgspec.Struct, frozen=True):
    """A ComfyUI that was started. `exit_code` is set when it has ended (not detached)."""

    record: RunRecord
    url: str
    boot_seconds: float | None = None
    exit_code: int | None = None


class Stopped(msgspec.Struct, frozen=True):
    pid: int
    seconds: float


@dataclass(frozen=True)
class Listening:
    """Where ComfyUI will listen, as its own arguments say."""

    host: str
    port: int


def running(context: Context) -> RunRecord | None:
    """The ComfyUI that was started from this home and still runs."""
    record = _recorded(context)
    if record is None:
        return None
    if not record.pid:
        return _found(record)
    return record if identity.is_same_process(record.pid, record.pid_started) else None


def _recorded(context: Context) -> RunRecord | None:
    """The run record, unless it came along in a copy of the home that it is about."""
    if not context.home.run_file.is_file():
        return None
    record = store.load(context.home.run_file, RunRecord)
    other = Path(record.home or context.home.root)
    is_copy = other.resolve() != context.home.root.resolve() and is_home(other)
    return None if is_copy else record


def _found(record: RunRecord) -> RunRecord | None:
    """A ComfyUI whose `gov run` died before it wrote down the process: every process carries its mark."""
    marked = process.marked(record.run_id)
    if not marked:
        return None
    return msgspec.structs.replace(record, pid=marked[0], pid_started=identity.started_at(marked[0]) or 0.0)


@dataclass(frozen=True)
class Launched:
    """A ComfyUI that has been started and is not ready yet."""

    service: process.Service
    record: RunRecord
    log: Path | None

    @property
    def url(self) -> str:
        return f"http://{self.record.host}:{self.record.port}"


def launch(context: Context, args: Sequence[str], *, detach: bool, quiet_stdout: bool = False) -> Launched:
    """Start the ComfyUI of head; `args` are the person's own. The home's lock is held by the caller."""
    already = running(context)
    if already is not None:
        raise GovError(Code.RUNNING, f"ComfyUI runs already (pid {already.pid}, port {already.port})", "gov stop")
    listening = _listening((*context.config.run.extra_args, *args))
    _refuse_taken_port(listening)
    log = context.home.logs / "comfyui.log" if detach else None
    return _launch(context, tuple(args), listening, log, quiet_stdout=quiet_stdout)


def until_ready(context: Context, launched: Launched, wait_seconds: float) -> Started:
    """Wait for the API of a detached ComfyUI; one that does not come up is ended."""
    from comfygov.ports.comfy_api import ComfyApi
    from comfygov.trial.boot import wait_until_ready

    record = launched.record
    host = "127.0.0.1" if record.host in ("0.0.0.0", "::") else record.host  # noqa: S104 (a comparison)
    log = launched.log or context.home.logs / "comfyui.log"
    try:
        faults.point("comfyui.launched")
        seconds = wait_until_ready(ComfyApi(host, record.port), launched.service, wait_seconds, log)
    except BaseException:
        launched.service.stop(signal.SIGTERM, 5.0)
        _forget(context, record.run_id)
        raise
    return Started(record, launched.url, boot_seconds=round(seconds, 3))


def _launch(
    context: Context, args: tuple[str, ...], listening: Listening, log: Path | None, *, quiet_stdout: bool
) -> Launched:
    from comfygov.trial import command
    from comfygov.truth.commit import write_model_paths

    head = context.snapshots.require_head()
    state = context.snapshots.read(head.snapshot)
    missing = write_model_paths(context.home)
    if missing:
        context.progress.warn(f"{len(missing)} folders of {context.home.models} could not be made: is its disk there?")
    context.home.logs.mkdir(parents=True, exist_ok=True)
    packs = [*command.shipped_packs(context.home.comfyui), *(p.id for p in state.registry.enabled())]
    argv = [
        context.generations.python(head.generation), "main.py", "--disable-auto-launch",
        "--extra-model-paths-config", str(context.home.model_paths_file),
        *_pack_arguments(context, packs), *_with_device(context, (*context.config.run.extra_args, *args)),
    ]  # fmt: skip
    if log is not None:
        log.unlink(missing_ok=True)
    record = RunRecord(
        pid=0,
        pid_started=0.0,
        run_id=os.urandom(8).hex(),
        snapshot=head.snapshot,
        generation=head.generation,
        host=listening.host,
        port=listening.port,
        log=context.home.relative(log) if log else "",
        args=args,
        detached=log is not None,
        started_at=clock.now(),
        home=str(context.home.root.absolute()),
    )
    store.save(context.home.run_file, record)
    try:
        service = process.start_service(
            argv,
            cwd=context.home.comfyui,
            env=_environment(context, head.generation),
            run_id=record.run_id,
            stdout=log,
            stdout_is_stderr=quiet_stdout,
            is_production=True,
        )
        faults.point("comfyui.started")
        started = identity.started_at(service.pid) or 0.0
        record = msgspec.structs.replace(record, pid=service.pid, pid_started=started)
        store.save(context.home.run_file, record)
    except BaseException:
        process.end_marked(record.run_id)
        _forget(context, record.run_id)
        raise
    return Launched(service, record, log)


def _pack_arguments(context: Context, packs: Sequence[str]) -> list[str]:
    """Exactly the enabled packs, and the unmanaged folders where policy lets them load too."""
    if context.config.policy.unmanaged_nodes == "allow":
        from comfygov.ops.sync import unmanaged

        packs = [*packs, *unmanaged(context, context.head_state())]
    return ["--disable-all-custom-nodes", *(["--whitelist-custom-nodes", *packs] if packs else [])]


def _environment(context: Context, generation: str) -> dict[str, str]:
    environment = context.generations.path(generation).resolve()
    path = f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    governed = governing.variables(context, path)
    return process.child_environment(
        {"VIRTUAL_ENV": str(environment), "PATH": path, "PYTHONUNBUFFERED": "1", **governed}
    )


def _with_device(context: Context, args: Sequence[str]) -> Sequence[str]:
    """`--cpu` by itself where there is nothing else: ComfyUI would end with an error."""
    return args if "--cpu" in args else (*device_arguments(context), *args)


def device_arguments(context: Context) -> tuple[str, ...]:
    """`--cpu` without a GPU that this environment's torch can use; nothing otherwise."""
    from comfygov.resolve.torch_backend import has_accelerator

    cpu_build = next(iter(context.config.python.torch_backends), "") == "cpu"
    return ("--cpu",) if cpu_build or not has_accelerator(context.interpreter.system) else ()


def _listening(args: Sequence[str]) -> Listening:
    from comfygov.trial.command import DEFAULT_HOST, DEFAULT_PORT

    host, port = DEFAULT_HOST, DEFAULT_PORT
    for position, argument in enumerate(args):
        name, _, value = argument.partition("=")
        following = args[position + 1] if position + 1 < len(args) else ""
        if name == "--port":
            port = _port(value or following)
        if name == "--listen":
            given = value or ("" if following.startswith("-") else following)
            host = (given or "0.0.0.0").split(",")[0]  # noqa: S104 (ComfyUI's own meaning of a bare --listen)
    return Listening(host, port)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise GovError(
        Code.USAGE,
        f"`--port {text}` is no port",
        "give a number up to 65535: gov run -- --port 8188, or [run] extra_args in config.toml",
    )


def _refuse_taken_port(listening: Listening) -> None:
    from comfygov.ports.comfy_api import port_is_taken

    if port_is_taken(listening.host, listening.port):
        raise GovError(
            Code.PORT_TAKEN,
            f"port {listening.port} on {listening.host} is taken by another program",
            f"gov run -- --port {listening.port + 1}",
        )


def attend(context: Context, launched: Launched) -> Started:
    """Wait for a ComfyUI in the foreground; Ctrl-C, SIGTERM and a closed terminal end it as `gov stop` would."""

    def hand_on(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        exit_code = launched.service.child.wait()
    except KeyboardInterrupt:
        launched.service.stop(signal.SIGINT, STOP_GRACE_SECONDS)
        exit_code = 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if launched.service.exit_code() is not None:
            _forget(context, launched.record.run_id)
    return Started(launched.record, launched.url, exit_code=exit_code)


def stop(context: Context) -> Stopped:
    """SIGTERM, 30 s, SIGKILL, for the whole process tree; also what a ComfyUI that died left behind."""
    recorded = _recorded(context)
    if recorded is None:
        raise GovError(Code.NOT_RUNNING, "no ComfyUI of this home runs", "gov run --detach")
    now = running(context)
    alive, record = now is not None, now or recorded
    started = time.monotonic()
    if alive:
        process.end_tree(record.pid, record.run_id, signal.SIGTERM, STOP_GRACE_SECONDS)
    process.end_marked(record.run_id)
    _forget(context, record.run_id)
    if not alive:
        raise GovError(Code.NOT_RUNNING, "ComfyUI had ended by itself", "gov logs")
    if running(context) is not None:
        raise GovError(Code.TIMEOUT, f"ComfyUI (pid {record.pid}) does not end", f"kill -9 {record.pid}")
    return Stopped(record.pid, round(time.monotonic() - started, 3))


def _forget(context: Context, run_id: str) -> None:
    """Remove the run record, if it is still that of this ComfyUI."""
    path = context.home.run_file
    if path.is_file() and store.load(path, RunRecord).run_id == run_id:
        path.unlink(missing_ok=True)


def start_again(context: Context, record: RunRecord) -> Started:
    """Start with the arguments that the person gave then; it runs detached now."""
    launched = launch(context, record.args, detach=True)
    return until_ready(context, launched, context.config.tx.timeout_seconds)
