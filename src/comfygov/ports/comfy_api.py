"""ComfyUI's HTTP API on loopback (routes: docs of ComfyUI's server.py; history is the truth)."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    import urllib3

_JSON = dict[str, Any]
_MAX_BODY_BYTES = 256 << 20
_BODY_SECONDS = 120.0


class ComfyApi:
    """One running ComfyUI."""

    def __init__(self, host: str, port: int, timeout_seconds: float = 30.0) -> None:
        import urllib3

        from comfygov.ports import bounded_http

        self.port = port
        self.base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        timeout = urllib3.Timeout(connect=2.0, read=timeout_seconds)
        self._pool = bounded_http.pool_manager(timeout)

    def _request(
        self, method: str, route: str, body: _JSON | None = None, fields: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer; raises GovError `tool_failed` when there is none. Who answers may be a
        pack that means harm: it cannot fill our memory, nor keep us by one byte after the other."""
        import urllib3

        sent: dict[str, Any] = {"json": body} if fields is None else {"fields": fields}
        try:
            response = self._pool.request(method, self.base + route, preload_content=False, **sent)
            with response:
                return response.status, _whole_body(response, route)
        except urllib3.exceptions.HTTPError as error:
            raise GovError(Code.TOOL_FAILED, f"ComfyUI does not answer {route}: {error}", "its log says why") from error

    def alive(self) -> bool:
        """True when the API answers."""
        try:
            return self._request("GET", "/system_stats")[0] == 200
        except GovError:
            return False

    def get(self, route: str) -> _JSON:
        """The JSON object at `route`; raises GovError `tool_failed` on any other answer."""
        status, data = self._request("GET", route)
        if status != 200:
            raise GovError(Code.TOOL_FAILED, f"ComfyUI answered {route} with status {status}", "its log says why")
        return _decode(data, route)

    def system_stats(self) -> _JSON:
        return self.get("/system_stats")

    def object_info(self) -> _JSON:
        """Class name -> schema, with `python_module` naming where the class comes from."""
        return self.get("/object_info")

    def probe(self, route: str) -> tuple[int, _JSON]:
        """Status and JSON of the answer to a GET, whatever the status is."""
        status, data = self._request("GET", route)
        return status, _decode(data, route) if data else {}

    def post(self, route: str, body: _JSON) -> tuple[int, _JSON]:
        """Status and JSON of the answer; an answer without a body is {}."""
        status, data = self._request("POST", route, body)
        return status, _decode(data, route) if data else {}

    def submit(self, workflow: _JSON, prompt_id: str) -> None:
        """Queue an API-format workflow under our own id; raises when ComfyUI refuses any part of it."""
        status, answer = self.post("/prompt", {"prompt": workflow, "prompt_id": prompt_id})
        errors = answer.get("node_errors") or {}
        if status != 200 or errors:
            reason = (answer.get("error") or {}).get("message", f"status {status}")
            lines = tuple(f"node {node}: {error}" for node, error in errors.items())
            raise GovError(Code.TRIAL_FAILED, f"ComfyUI refused the workflow: {reason}", "check the workflow", lines)

    def result(self, prompt_id: str, timeout_seconds: float) -> _JSON:
        """The history entry of a finished workflow, by polling; raises `timeout` or `trial_failed`."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return _finished(entry)
            time.sleep(0.05)
        self._request("POST", "/interrupt", {"prompt_id": prompt_id})
        raise GovError(Code.TIMEOUT, f"the workflow did not finish in {timeout_seconds:.0f} s", "its log says why")

    def view(self, filename: str, subfolder: str, kind: str) -> bytes:
        """The bytes of an output file."""
        fields = {"filename": filename, "subfolder": subfolder, "type": kind}
        status, data = self._request("GET", "/view", fields=fields)
        if status != 200:
            raise GovError(Code.TOOL_FAILED, f"ComfyUI has no output file {filename}", "its log says why")
        return data


def _whole_body(response: urllib3.BaseHTTPResponse, route: str) -> bytes:
    deadline = time.monotonic() + _BODY_SECONDS
    data = bytearray()
    while part := response.read1(1 << 20, decode_content=False):
        data += part
        if len(data) > _MAX_BODY_BYTES or time.monotonic() > deadline:
            message = f"ComfyUI answers {route} without end"
            raise GovError(Code.TOOL_FAILED, message, "its log says why")
    return bytes(data)


def _decode(data: bytes, route: str) -> _JSON:
    try:
        return msgspec.json.decode(data, type=_JSON)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise GovError(Code.TOOL_FAILED, f"what answers {route} is no ComfyUI: {error}", "its log says why") from error


def _finished(entry: _JSON) -> _JSON:
    status = entry.get("status") or {}
    messages = dict(status.get("messages", []))
    if status.get("completed") and "execution_error" not in messages:
        return entry
    problem = messages.get("execution_error") or {}
    where = f"node {problem.get('node_id')} ({problem.get('node_type')}): " if problem else ""
    raise GovError(
        Code.TRIAL_FAILED,
        f"the workflow failed: {where}{problem.get('exception_message', 'interrupted')}",
        "its log says why",
    )


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening_socket(host: str) -> socket.socket:
    """A socket that listens on a free port of `host`."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen(64)
    return listener


def port_is_taken(host: str, port: int) -> bool:
    """True when binding `host:port` fails, which is what ComfyUI would meet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
