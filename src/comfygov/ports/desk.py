"""Where a trial's processes tell what they do and ask for installs: a unix socket in a folder that they cannot change.

What they say is data from people that we do not know: it is bounded, decoded strictly, and never run.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.ports import bytecode, fs
from comfygov.ports.inside import relay

if TYPE_CHECKING:
    from collections.abc import Callable

INSIDE = Path(relay.__file__).parent
PYTHON_PATH = INSIDE / "path"
PROGRAMS = ("pip", "pip3", "uv", "uvx", "easy_install", "conda", "mamba", "micromamba", "poetry", "pipx")
_SOCKET_NAME = "desk.sock"
_MAX_LINE_BYTES = 64 << 10
_MAX_CONNECTIONS = 512
_MAX_LOG_BYTES = 16 << 20
_DRAIN_SECONDS = 2.0

Answer = dict[str, Any]


class Event(msgspec.Struct, omit_defaults=True):
    """One line of a process: what it said, as far as it has the form that we know. `what` is in words, `pack` whose
    code it was, `through` other packs that had a part in it; the rest belongs to an install."""

    kind: str
    pack: str = ""
    what: str = ""
    at: float = 0.0
    pid: int = 0
    through: tuple[str, ...] = ()
    form: str = ""
    command: str = ""
    requirements: tuple[str, ...] = ()
    target: str = ""
    there: bool = False
    answer: str = ""
    said: str = ""


def write_programs(folder: Path) -> Path:
    """Stand-ins for installers, to be put first on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    script = PYTHON_PATH / "comfygov_installs.py"
    for name in PROGRAMS:
        text = f'#!/bin/sh\nexec "$VIRTUAL_ENV/bin/python" "{script}" {name} "$@"\n'
        fs.write_atomic(folder / name, text.encode(), mode=0o755)
    return folder


def compile_inside(python: str, tag: str) -> None:
    """Make the bytecode of what runs in every process of a trial: in there it could not be written. `tag` is the
    Python's own name for its bytecode (`cpython-312`)."""
    made = PYTHON_PATH / "__pycache__" / f"comfygov_installs.{tag}.pyc"
    if not made.exists() and os.access(PYTHON_PATH, os.W_OK):
        bytecode.compile_tree(python, PYTHON_PATH)


@dataclass
class Desk:
    """Listens in `folder` while it is open, writes each event to `log`, has `answer` reply to installs, one after
    the other. Who says to be a pack that is not one of `packs` is nobody."""

    folder: Path
    log: Path
    answer: Callable[[Event], Answer]
    packs: frozenset[str]
    _listener: socket.socket | None = None
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _answering: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False
    _written: int = 0
    _lost: int = 0

    def __enter__(self) -> Desk:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = self.folder / _SOCKET_NAME
        path.unlink(missing_ok=True)
        _bind(self._listener, self.folder)
        self._listener.listen(64)
        acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True, name="trial desk")
        acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener:
            # A bare close would leave the thread in accept.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        deadline = time.monotonic() + _DRAIN_SECONDS
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._closed = True  # what waits behind an install that is under way is not begun
        with self._answering:
            pass
        if self._lost:
            self._append(Event(kind="lost", what=f"{self._lost} lines or processes were not taken"))
        (self.folder / _SOCKET_NAME).unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) >= _MAX_CONNECTIONS:
                self._lost += 1
                connection.close()
                continue
            thread = threading.Thread(target=self._listen, args=(connection,), daemon=True, name="trial desk")
            self._threads.append(thread)
            thread.start()

    def _listen(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                while line := lines.readline(_MAX_LINE_BYTES):
                    if not line.endswith(b"\n"):
                        self._lost += 1
                        return  # it is longer than anything that our own modules say, or was cut off
                    self._take(line, connection)
            except OSError:
                return  # the process was ended

    def _take(self, line: bytes, connection: socket.socket) -> None:
        try:
            event = msgspec.json.decode(line, type=Event)
        except (msgspec.MsgspecError, RecursionError):
            self._lost += 1
            return
        event.pack = event.pack if event.pack in self.packs else ""
        event.through = tuple(name for name in event.through if name in self.packs)
        if event.kind == "install":
            reply = self._reply(event)
            event.answer, event.said = str(reply["answer"]), str(reply["said"])
            self._write(event)
            connection.sendall(msgspec.json.encode(reply) + b"\n")
        else:
            self._write(event)

    def _reply(self, event: Event) -> Answer:
        with self._answering:
            if self._closed:
                return {"exit": 1, "answer": "refused", "said": "comfygov: the trial is over"}
            try:
                return self.answer(event)
            except Exception as error:  # noqa: BLE001 (a wish that we cannot cope with is refused, and said to be)
                return {"exit": 1, "answer": "refused", "said": f"comfygov could not answer: {error!r}"}

    def _write(self, event: Event) -> None:
        """Append an event, up to a bound: a pack may talk without end."""
        with self._lock:
            if self._written < _MAX_LOG_BYTES:
                self._append(event)
            else:
                self._lost += 1

    def _append(self, event: Event) -> None:
        data = msgspec.json.encode(event) + b"\n"
        self._written += len(data)
        with self.log.open("ab") as file:
            file.write(data)


def _bind(listener: socket.socket, folder: Path) -> None:
    """A socket's path is bounded by 108 bytes; a home's is not."""
    if sys.platform != "linux":
        listener.bind(str(folder / _SOCKET_NAME))
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{_SOCKET_NAME}")
    finally:
        os.close(descriptor)
