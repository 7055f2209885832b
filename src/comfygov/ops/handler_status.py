"""A small file that says how a handler is, for health checks: `gov handler health` needs no curl and no open port."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ports import fs, identity
from comfygov.ports.comfy_api import ComfyApi

if TYPE_CHECKING:
    from comfygov.delivery.comfyui import Supervisor

_PROBE_SECONDS = 10.0


class HandlerStatus(msgspec.Struct, frozen=True):
    """`state` is starting, ready, failed or stopping; `comfyui_port` 0 while there is no ComfyUI; `http` is where the
    handler listens itself, "" for a RunPod worker."""

    pid: int
    pid_started: float
    state: str
    version: str
    comfyui_port: int = 0
    http: str = ""
    error: str = ""


class Health(msgspec.Struct, frozen=True):
    """`alive`: the handler's process is there, and ComfyUI answers or is being started."""

    alive: bool
    ready: bool
    reason: str
    status: HandlerStatus | None = None


def status_file() -> Path:
    """$COMFYGOV_STATUS_FILE, else a file of this user in the temporary directory: one handler for each container."""
    named = os.environ.get("COMFYGOV_STATUS_FILE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(tempfile.gettempdir()) / f"comfygov-handler-{os.getuid()}" / "status.json"


def write(supervisor: Supervisor, http: str) -> None:
    """What is now; a disk that takes nothing is no reason to stop serving."""
    path, now, failure = status_file(), supervisor.now, supervisor.failure
    status = HandlerStatus(
        pid=os.getpid(),
        pid_started=identity.started_at(os.getpid()) or 0.0,
        state=supervisor.state,
        version=supervisor.runtime.version,
        comfyui_port=now.api.port if now else 0,
        http=http,
        error=failure.message if failure else "",
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fs.write_if_changed(path, msgspec.json.encode(status))
    except OSError:
        pass


def remove() -> None:
    status = _read()
    if status is not None and status.pid == os.getpid():
        status_file().unlink(missing_ok=True)


def _read() -> HandlerStatus | None:
    """None when there is none, or somebody else wrote it."""
    path = status_file()
    try:
        if path.lstat().st_uid != os.getuid() or not stat.S_ISREG(path.lstat().st_mode):
            return None
        return msgspec.json.decode(path.read_bytes(), type=HandlerStatus)
    except (OSError, msgspec.MsgspecError):
        return None


def health(http: str | None) -> Health:
    """Of the handler that listens at `http`, else of this user's handler on this machine."""
    return _asked(http) if http else _looked()


def _asked(http: str) -> Health:
    host, port = parse_address(http)
    probe = ComfyApi(host, port, _PROBE_SECONDS)
    try:
        alive, said = probe.probe("/health")
        ready, _ = probe.probe("/ready")
    except GovError as error:
        return Health(alive=False, ready=False, reason=error.message.replace("ComfyUI", f"the handler at {http}"))
    return Health(alive=alive == 200, ready=ready == 200, reason=str(said.get("error") or said.get("status") or ""))


def _looked() -> Health:
    status = _read()
    if status is None or not identity.is_same_process(status.pid, status.pid_started):
        return Health(alive=False, ready=False, reason=f"no handler runs here ({status_file()})", status=status)
    if status.state == "starting":
        return Health(alive=True, ready=False, reason="ComfyUI is being started", status=status)
    if status.state != "ready":
        return Health(alive=False, ready=False, reason=status.error or status.state, status=status)
    if ComfyApi("127.0.0.1", status.comfyui_port, _PROBE_SECONDS).alive():
        return Health(alive=True, ready=True, reason="ready", status=status)
    return Health(
        alive=False, ready=False, reason=f"ComfyUI does not answer on port {status.comfyui_port}", status=status
    )


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, :PORT or PORT; an IPv6 host in brackets. Raises GovError `usage`."""
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise GovError(Code.USAGE, f"`{text}` is no address", "--http 127.0.0.1:8000")
    return host.strip("[]") or "127.0.0.1", int(port)
