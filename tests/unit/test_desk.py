"""The desk of a trial takes what people that nobody knows say to it, and stays what it is."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfygov.ports import desk
from comfygov.ports.desk import Answer, Desk, Event
from comfygov.trial import watching

INSTALL = b'{"kind":"install","pack":"one","form":"pip","command":"install","requirements":["a"]}\n'


def yes(_: Event) -> Answer:
    return {"exit": 0, "answer": "absorbed", "said": "fine"}


def say(tmp_path: Path, *lines: bytes, answer: Callable[[Event], Answer] = yes) -> tuple[list[Event], bytes]:
    """What the log holds after `lines` were said on one connection, and what came back."""
    log = tmp_path / "events.jsonl"
    with Desk(tmp_path / "desk", log, answer, frozenset({"one", "two"})), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "desk" / "desk.sock"))
        try:
            client.sendall(b"".join(lines))
            client.shutdown(socket.SHUT_WR)
            back = client.recv(1 << 16)
        except (BrokenPipeError, ConnectionResetError):
            back = b""
    return list(watching.read(log)), back


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 60_000,
        b'{"kind":' + b"[" * 60_000 + b"\n",
        b'{"kind":"\\ud800"}\n',
        b"\xff\xfe\n",
        b"x" * 200_000 + b"\n",
        b'{"kind":"install","requirements":"all"}\n',
        b'{"kind":["install"]}\n',
        b"null\n",
    ],
    ids=["open", "deep", "surrogate", "bytes", "long", "no-list", "no-word", "null"],
)
def test_what_is_no_event_is_counted_and_the_next_one_is_taken(tmp_path: Path, line: bytes) -> None:
    events, _ = say(tmp_path, line)
    assert [event.kind for event in events] == ["lost"]
    events, back = say(tmp_path, INSTALL)
    assert json.loads(back)["exit"] == 0
    assert events[-1].answer == "absorbed"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_close_it(tmp_path: Path, lines: list[bytes]) -> None:
    say(tmp_path, *(line + b"\n" for line in lines))
    _, back = say(tmp_path, INSTALL)
    assert json.loads(back)["answer"] == "absorbed"


def test_nobody_speaks_for_a_pack_that_is_not_there(tmp_path: Path) -> None:
    asked: list[Event] = []

    def remember(event: Event) -> Answer:
        asked.append(event)
        return yes(event)

    line = INSTALL.replace(b"one", b"three").replace(b'"kind"', b'"answer":"absorbed","through":["x","two"],"kind"')
    events, _ = say(tmp_path, line, answer=remember)
    assert (asked[0].pack, asked[0].through) == ("", ("two",))
    assert events[0].pack == ""


def test_an_answer_that_fails_is_a_refusal(tmp_path: Path) -> None:
    def fail(_: Event) -> Answer:
        raise ValueError("this one")

    _, back = say(tmp_path, INSTALL, answer=fail)
    assert json.loads(back)["exit"] == 1
    assert "this one" in json.loads(back)["said"]


def test_a_flood_is_bounded_and_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_MAX_LOG_BYTES", 10_000)
    events, _ = say(tmp_path, *(b'{"kind":"write","pack":"one","what":"%d"}\n' % number for number in range(2000)))
    assert events[-1].kind == "lost"
    assert watching.lost(tmp_path / "events.jsonl")
    assert (tmp_path / "events.jsonl").stat().st_size < 12_000


def test_wishes_that_wait_when_the_trial_ends_are_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_DRAIN_SECONDS", 0.2)
    begun: list[Any] = []

    def slow(event: Event) -> Answer:
        begun.append(event)
        time.sleep(0.5)
        return yes(event)

    clients = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    with Desk(tmp_path / "desk", tmp_path / "events.jsonl", slow, frozenset({"one"})):
        for client in clients:
            client.connect(str(tmp_path / "desk" / "desk.sock"))
            client.sendall(INSTALL)
        while not begun:
            time.sleep(0.01)
    count = len(begun)
    time.sleep(0.7)
    for client in clients:
        client.close()
    assert count == len(begun) == 1
