"""Jobs over plain HTTP, in the form of RunPod's API, for any scheduler: Kubernetes, a queue of one's own, curl.

POST /run, POST /runsync, GET /status/ID, POST /cancel/ID, GET /health, GET /ready, GET /metrics.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from comfygov.delivery import job as jobs
from comfygov.delivery import metrics
from comfygov.delivery.table import DONE, Record, Refused, Table
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from comfygov.delivery.comfyui import Supervisor

_SILENCE_SECONDS = 120.0
_MAX_WAIT_SECONDS = 7 * 24 * 3600.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LENGTH = re.compile(r"[0-9]{1,18}")
_SKIPPED_BYTES = 1 << 16
_MOST_CONNECTIONS = 1024
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_JSON = "application/json"
Reply = tuple[int, str, bytes]


class Service:
    """What the routes need. `token` "" lets everybody in."""

    def __init__(self, table: Table, supervisor: Supervisor, token: str, max_body_bytes: int) -> None:
        self.table = table
        self.supervisor = supervisor
        self.token = token
        self.max_body_bytes = max_body_bytes
        self.draining = False

    def health(self) -> Reply:
        """Alive: this process answers, and ComfyUI is there or comes."""
        alive = self.supervisor.state in ("starting", "ready")
        return _json(200 if alive else 503, self._state())

    def ready(self) -> Reply:
        """ComfyUI answers, every pack of the version is loaded, the warm-up ran, and jobs are taken."""
        ready = self.supervisor.state == "ready" and not self.draining
        return _json(200 if ready else 503, self._state())

    def _state(self) -> dict[str, Any]:
        supervisor, (waiting, running) = self.supervisor, self.table.counts
        runtime, now, failure = supervisor.runtime, supervisor.now, supervisor.failure
        found: dict[str, Any] = {
            "status": "draining" if self.draining else supervisor.state,
            "version": {"name": runtime.version, "digest": runtime.digest},
            "jobs": {"waiting": waiting, "running": running},
            "comfyui": {"starts": supervisor.starts, "restarts": supervisor.restarts},
        }
        if now is not None:
            health = now.health
            found["comfyui"] |= {"version": health.comfyui_version, "torch": health.pytorch_version}
            found["comfyui"] |= {"device": now.device, "packs": list(runtime.packs)}
        return {**found, "error": failure.message} if failure else found

    def take(self, body: bytes) -> Record | Reply:
        """The job of a request, or what is wrong with it."""
        try:
            given = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            return _json(400, {"error": f"the body is no JSON: {error}"})
        if not isinstance(given, dict):
            return _json(400, {"error": 'the body is not an object such as {"input": {"workflow": …}}'})
        job_id = given.get("id", None) or jobs.new_id()
        if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
            return _json(400, {"error": "`id` must be letters, digits, `.`, `_` and `-`, at most 128"})
        try:
            return self.table.submit(job_id, given.get("input"), len(body), _sum_of(given) if "id" in given else b"")
        except Refused as refused:
            return _refused(refused)

    def cancel(self, job_id: str) -> Reply:
        record = self.table.cancel(job_id)
        return _json(200, record.view()) if record else _no_job(job_id)


def _json(status: int, value: object) -> Reply:
    return status, _JSON, msgspec.json.encode(value)


def _refused(refused: Refused) -> Reply:
    return _json(refused.status, {"error": str(refused), "retryable": refused.status != 409})


def _sum_of(given: dict[str, Any]) -> bytes:
    return hashlib.sha256(msgspec.json.encode(given.get("input"), order="deterministic")).digest()


def _no_job(job_id: str) -> Reply:
    return _json(404, {"error": f"there is no job `{job_id[:128]}`, or its result is not kept any more"})


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "comfygov"
    sys_version = ""
    timeout = _SILENCE_SECONDS
    service: Service
    _is_read = False

    def parse_request(self) -> bool:
        self._is_read = False
        return super().parse_request()

    def do_GET(self) -> None:
        self._skip_body()  # else it would be read as the next request
        path, open_routes = urlsplit(self.path).path, {"/health": self.service.health, "/ready": self.service.ready}
        if path in open_routes:
            self._reply(open_routes[path]())
        elif self._may_come():
            if path == "/metrics":
                self._reply((200, "text/plain; version=0.0.4", self._metrics()))
            elif path.startswith("/status/"):
                self._tell_of(path.removeprefix("/status/"))
            else:
                self._reply(self._unknown(path))

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if self._is_refused():
            return
        if parts.path in ("/run", "/runsync"):
            taken = self._taken()
            wait = self._wait_of(parts.query) if parts.path == "/runsync" else 0.0
            if isinstance(taken, Record):
                taken.done.wait(wait)
                self._tell(taken)
            else:
                self._reply(taken)
        else:
            self._skip_body()
            is_cancel = parts.path.startswith("/cancel/")
            job_id = parts.path.removeprefix("/cancel/")
            self._reply(self.service.cancel(job_id) if is_cancel else self._unknown(parts.path))

    def _tell_of(self, job_id: str) -> None:
        record = self.service.table.get(job_id)
        if record is None:
            self._reply(_no_job(job_id))
        else:
            self._tell(record)

    def _tell(self, record: Record) -> None:
        """How a job is. A result counts as read once it has been sent."""
        is_result = record.status in DONE
        self._reply(_json(200, record.view()))
        if is_result:
            self.service.table.mark_read(record)

    def handle_expect_100(self) -> bool:
        """Who may not come, or brings too much, is told so before the body is sent."""
        return not (self.command == "POST" and self._is_refused()) and super().handle_expect_100()

    def _taken(self) -> Record | Reply:
        """The job of a request, once there is memory for its body."""
        try:
            with self.service.table.room(self._length()):
                return self.service.take(self.rfile.read(self._length()))
        except Refused as refused:
            self._skip_body()
            return _refused(refused)

    def _metrics(self) -> bytes:
        return metrics.text(self.service.table, self.service.supervisor).encode()

    @staticmethod
    def _wait_of(query: str) -> float:
        """`?wait=MS`, as RunPod's; without it until the job has ended."""
        text = parse_qs(query).get("wait", [""])[0]
        return min(float(text) / 1000, _MAX_WAIT_SECONDS) if text.isdecimal() else _MAX_WAIT_SECONDS

    @staticmethod
    def _unknown(path: str) -> Reply:
        routes = "POST /run /runsync /cancel/ID, GET /status/ID /health /ready /metrics"
        return _json(404, {"error": f"there is no {path[:100]}; there are {routes}"})

    def _may_come(self) -> bool:
        token = self.service.token
        given = self.headers.get("Authorization", "")
        if not token or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return True
        self._skip_body()
        self._reply(_json(401, {"error": "this worker wants `Authorization: Bearer TOKEN`"}))
        return False

    def _is_refused(self) -> bool:
        """True when it was answered already, unread: no token, no length, or too much."""
        if not self._may_come():
            return True
        length, most = self.headers.get("Content-Length", ""), self.service.max_body_bytes
        if not _LENGTH.fullmatch(length) or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._reply(_json(411, {"error": "Content-Length is missing"}))
        elif int(length) > most:
            self._skip_body()
            self._reply(_json(413, {"error": f"the body has {int(length):,} bytes; at most {most:,} are taken"}))
        else:
            return False
        return True

    def _length(self) -> int:
        length = self.headers.get("Content-Length", "")
        return int(length) if _LENGTH.fullmatch(length) else 0

    def _skip_body(self) -> None:
        """A body that nobody wants: a small one is read away, for a large one the connection ends."""
        if self._is_read:
            return
        self._is_read = True
        is_sent = not (self.headers.get("Expect") or self.headers.get("Transfer-Encoding"))
        if is_sent and self._length() <= _SKIPPED_BYTES:
            self.rfile.read(self._length())
        else:
            self.close_connection = True

    def _reply(self, reply: Reply) -> None:
        status, kind, data = reply
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Schedulers ask every second; jobs have their own lines."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (as it is declared)
        """A thread for each connection, up to a bound."""
        if self._places.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:
                self._places.release()
                raise
            return
        with contextlib.suppress(OSError):
            request.settimeout(0)
            request.send(_BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def server_bind(self) -> None:
        """Without asking name servers for our own name, as http.server does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nothing to shout about."""
        del request, client_address


class Listening:
    """The server on an address, answering until it is closed."""

    def __init__(self, host: str, port: int, service: Service) -> None:
        handler = type("Handler", (_Handler,), {"service": service})
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = type("Server", (_Server,), {"address_family": family})
        try:
            self._server: ThreadingHTTPServer = kind((host, port), handler)
        except OSError as error:
            code = Code.PORT_TAKEN if "in use" in str(error) else Code.USAGE
            raise GovError(
                code, f"{host}:{port} cannot be listened on: {error.strerror}", "--http HOST:PORT"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="http")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
