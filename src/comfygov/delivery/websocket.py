"""The events of a ComfyUI, for progress alone: a client of RFC 6455 that may be cut off at any moment.

Nothing depends on it: whether a job is done is asked of the history.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_MAX_FRAME_BYTES = 256 << 20  # previews of large pictures come as binary frames
_AGAIN_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
_KEPT_BYTES = 1 << 20


class Listener:
    """Hands the events for `client_id` to `heard` (from a thread of its own) until it is stopped."""

    def __init__(self, host: str, port: int, client_id: str, heard: Callable[[dict[str, Any]], None]) -> None:
        self._address = (host, port)
        self._client_id = client_id
        self._heard = heard
        self._end = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="comfyui events")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        held = self._socket
        if held is not None:
            try:
                held.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it had ended
        self._thread.join(2)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._listen()
            except (OSError, EOFError, struct.error, ValueError):
                pass  # cut off, refused, or not a websocket: try again
            self._end.wait(_AGAIN_SECONDS)

    def _listen(self) -> None:
        with socket.create_connection(self._address, _CONNECT_SECONDS) as connection:
            self._socket = connection
            with connection.makefile("rb") as reader:
                self._shake_hands(connection, reader)
                connection.settimeout(None)  # silence is no fault
                while not self._end.is_set():
                    self._take(connection, reader)

    def _shake_hands(self, connection: socket.socket, reader: BinaryIO) -> None:
        host, port = self._address
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET /ws?clientId={self._client_id} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        connection.sendall(request.encode())
        if b" 101 " not in reader.readline(1000):
            raise EOFError
        while reader.readline(10_000).strip():
            pass

    def _take(self, connection: socket.socket, reader: BinaryIO) -> None:
        opcode, payload = _frame(reader)
        if opcode == _CLOSE:
            raise EOFError
        if opcode == _PING:
            connection.sendall(_masked(_PONG, payload))
        if opcode == _TEXT:
            try:
                event = msgspec.json.decode(payload, type=dict[str, Any])
            except msgspec.MsgspecError:
                return
            self._heard(event)


def _frame(reader: BinaryIO) -> tuple[int, bytes]:
    first, second = _exactly(reader, 2)
    size = second & 0x7F
    if size > 125:
        form = ">H" if size == 126 else ">Q"
        (size,) = struct.unpack(form, _exactly(reader, struct.calcsize(form)))
    if size > _MAX_FRAME_BYTES or second & 0x80:
        raise EOFError
    if first & 0x0F in (_TEXT, _CLOSE, _PING) and size <= _KEPT_BYTES:
        return first & 0x0F, _exactly(reader, size)
    while size > 0:  # a preview: nobody looks at it
        size -= len(_exactly(reader, min(size, _KEPT_BYTES)))
    return 0, b""


def _exactly(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _masked(opcode: int, payload: bytes) -> bytes:
    """A control frame; clients have to mask theirs."""
    mask = os.urandom(4)
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload[:125]))
    return struct.pack(">BB", 0x80 | opcode, 0x80 | len(body)) + mask + body
