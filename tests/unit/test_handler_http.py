"""The handler's HTTP server and its table of jobs, without a ComfyUI: who may send what, and what is kept."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from comfygov.delivery import http_server
from comfygov.delivery.comfyui import Supervisor
from comfygov.delivery.deadline import Deadline
from comfygov.delivery.http_server import Listening, Service
from comfygov.delivery.table import Limits, Table
from comfygov.delivery.work import Work
from comfygov.model.delivery import JobResult, RunningVersion, Runtime, Timing
from comfygov.model.handler import Settings
from comfygov.model.state import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "let-me-in-please"
RESULT = JobResult((), (), Timing(), RunningVersion("v", "sha256:0"), "p")


@contextmanager
def listening(run: Callable[..., JobResult], limits: Limits | None = None, token: str = "") -> Iterator[Asked]:
    """A server whose jobs are done by `run`."""
    runtime = Runtime("v", "sha256:0", "/python", "/comfyui")
    supervisor = Supervisor(runtime, Work(Path("/nowhere")), Settings(), Baseline(), lambda _line: None)
    table = Table(run, lambda _raw: Deadline(30), limits or Limits())
    server = Listening("127.0.0.1", 0, Service(table, supervisor, token, 1_000_000))
    try:
        yield Asked(server.port, table)
    finally:
        server.close()


class Asked:
    def __init__(self, port: int, table: Table) -> None:
        self.port = port
        self.table = table

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def raw(self, head: str) -> str:
        """What is answered to a head whose body never comes."""
        with self.connected() as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
            return connection.recv(4096).decode()

    def ask(self, method: str, route: str, body: object = None, **headers: str) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}{route}"
        data = None if body is None else json.dumps(body).encode()
        answer = urllib3.request(method, url, body=data, headers=headers, retries=False, timeout=30)
        return answer.status, json.loads(answer.data)


def done(*_: object) -> JobResult:
    return RESULT


def test_who_may_not_come_is_told_so_before_the_body() -> None:
    head = "POST /run HTTP/1.1\nHost: x\nContent-Length: 900000"
    asked = f"{head}\nExpect: 100-continue"
    with listening(done, token=TOKEN) as server:
        assert server.raw(head).startswith("HTTP/1.1 401 ")
        assert server.raw(asked).startswith("HTTP/1.1 401 ")
        allowed = f"{asked}\nAuthorization: Bearer {TOKEN}"
        assert server.raw(allowed).startswith("HTTP/1.1 100 ")
        assert server.raw(allowed.replace("900000", "9" * 17)).startswith("HTTP/1.1 413 ")
        assert server.raw(allowed.replace("900000", "9" * 5000)).startswith("HTTP/1.1 411 ")
        assert server.ask("POST", "/run", {"input": 1})[0] == 401
        assert server.ask("POST", "/runsync", {"input": 1}, Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_body_that_nobody_wants_is_no_next_request() -> None:
    with listening(done, token=TOKEN) as server, server.connected() as connection:
        body = b"GET /health HTTP/1.1\r\n\r\n"
        for head in (b"POST /run", b"GET /nowhere"):
            connection.sendall(head + b" HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_inputs_have_so_much_memory_in_all() -> None:
    go_on = threading.Event()

    def wait(*_: object) -> JobResult:
        go_on.wait(20)
        return RESULT

    with listening(wait, Limits(hold_bytes=100)) as server:
        body = {"id": "large", "input": "x" * 200}
        assert server.ask("POST", "/run", body)[0] == 200, "one is always taken"
        status, answer = server.ask("POST", "/run", {"input": 1})
        assert (status, answer["retryable"]) == (429, True)
        go_on.set()
        assert server.ask("POST", "/runsync", {"id": "large", "input": "x" * 200})[0] in (200, 429)
        record = server.table.get("large")
        assert record is not None
        assert record.done.wait(10)
        assert server.ask("POST", "/runsync", {"input": 1})[0] == 200


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_MOST_CONNECTIONS", 2)
    with listening(done) as server:
        with server.connected(), server.connected():
            assert server.raw("").startswith("HTTP/1.1 503 ")
        for _ in range(100):  # the two threads see soon that their clients have gone
            with server.connected() as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
                try:
                    answer = connection.recv(4096)
                except ConnectionResetError:
                    continue
                if answer.startswith(b"HTTP/1.1 200 "):
                    return
        pytest.fail("a place that was given back is not given again")
