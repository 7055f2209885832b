"""The handler's HTTP server and its table of jobs, without a ComfyUI: who may send what, and what is kept."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import urllib3

from comfygov.delivery import http_server
from comfygov.delivery.comfyui import Supervisor
from comfygov.delivery.deadline import Deadline
from comfygov.delivery.failure import JobFailed
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
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 401 ")


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


def test_an_id_is_one_job_until_that_one_could_be_tried_again() -> None:
    outcomes: list[JobResult | JobFailed] = [
        JobFailed("comfyui_died", "out of memory", retryable=True),
        RESULT,
        JobFailed("bad_job", "its own fault"),
    ]

    def next_outcome(*_: object) -> JobResult:
        found = outcomes.pop(0)
        if isinstance(found, JobFailed):
            raise found
        return found

    with listening(next_outcome) as server:
        body = {"id": "mine", "input": {"workflow": {"a": 1, "b": 2}}}
        same = {"input": {"workflow": {"b": 2, "a": 1}}, "id": "mine"}
        for sent, ended in ((body, "FAILED"), (same, "COMPLETED"), (body, "COMPLETED")):
            assert server.ask("POST", "/runsync", sent)[1]["status"] == ended
        status, answer = server.ask("POST", "/runsync", {"id": "mine", "input": {"workflow": {"a": 1}}})
        assert (status, answer["retryable"]) == (409, False)
        assert "with another input" in answer["error"]
        for _ in range(2):
            assert server.ask("POST", "/runsync", {"id": "other", "input": 1})[1]["status"] == "FAILED"
        assert not outcomes


def test_results_that_nobody_has_read_are_kept_longest() -> None:
    size = len(msgspec.json.encode(RESULT))
    with listening(done, Limits(keep_bytes=2 * size)) as server:
        for name in ("unread", "read"):
            record = server.table.submit(name, None)
            assert record.done.wait(10)
        assert server.ask("GET", "/status/read")[0] == 200
        assert server.table.submit("third", None).done.wait(10)
        assert server.ask("GET", "/status/read")[0] == 404
        assert server.ask("GET", "/status/unread")[0] == 200


def test_what_is_handed_back_at_the_end_can_still_be_read() -> None:
    def wait(_id: str, _raw: object, deadline: Deadline, _report: object) -> JobResult:
        deadline.pause(20, "it waited")
        return RESULT

    with listening(wait) as server:
        assert server.ask("POST", "/run", {"id": "mine", "input": 1})[0] == 200
        closing = threading.Thread(target=server.table.close, args=("the worker is going away", 0.0))
        closing.start()
        record = server.table.get("mine")
        assert record is not None
        assert record.done.wait(10)
        assert closing.is_alive(), "somebody may come for it"
        _, answer = server.ask("GET", "/status/mine")
        assert answer["output"]["code"] == "handed_back"
        closing.join(10)
        assert not closing.is_alive()


def test_a_result_counts_as_read_when_it_has_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    read_when_sent = []
    send = http_server._Handler._reply

    def noted(self: http_server._Handler, reply: http_server.Reply) -> None:
        record = self.service.table.get("mine")
        assert record is not None
        read_when_sent.append(record.read)
        send(self, reply)

    with listening(done) as server:
        record = server.table.submit("mine", None)
        assert record.done.wait(10)
        monkeypatch.setattr(http_server._Handler, "_reply", noted)
        assert server.ask("GET", "/status/mine")[0] == 200
        server.table.close("the end", 10.0)
        assert (read_when_sent, record.read) == ([False], True)
