"""The server side of RFC 6455 by hand: handshake, text frames out, ping and close answered."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import queue
import struct
import threading
from typing import Any, BinaryIO

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MAXIMUM = 4 * 1024 * 1024


def accept_key(key: str) -> str:
    """The answer to Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, size)
    elif size < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 127, size)
    return head + payload


class Socket:
    """One connected client; sending never waits for it."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self.reader = reader
        self.writer = writer
        self.outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._pump, daemon=True)
        self.thread.start()

    def _pump(self) -> None:
        while (data := self.outgoing.get()) is not None:
            try:
                self.writer.write(data)
                self.writer.flush()
            except (OSError, ValueError):
                return

    def send_json(self, message: dict[str, Any]) -> None:
        """Queue a text frame."""
        self.outgoing.put(frame(TEXT, json.dumps(message).encode()))

    def finish(self) -> None:
        """Let the sender end after what is queued."""
        self.outgoing.put(None)
        self.thread.join(timeout=1)

    def _exactly(self, size: int) -> bytes:
        data = self.reader.read(size)
        if data is None or len(data) < size:
            raise EOFError
        return data

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        if size > MAXIMUM:
            raise EOFError
        mask = self._exactly(4) if second & 0x80 else bytes(4)
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self._exactly(size)))
        return bool(first & 0x80), first & 0x0F, data

    def receive(self) -> str | None:
        """The next text message, None when the client is gone; pings are answered on the way."""
        parts: list[bytes] = []
        with contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                final, opcode, data = self._frame()
                if opcode == CLOSE:
                    self.outgoing.put(frame(CLOSE, data[:2]))
                    return None
                if opcode == PING:
                    self.outgoing.put(frame(PONG, data))
                elif opcode in {0, TEXT, BINARY}:
                    parts.append(data)
                    if final:
                        return b"".join(parts).decode("utf-8", "replace")
        return None
