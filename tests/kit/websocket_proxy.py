"""Plays `python`: starts ComfyUI on another port, and stands before it on the one that was asked for.

What is no websocket passes as it is. Websockets are, as `mode` says: `drop`: cut after a moment, and refused for a
while; `silent`: opened, and never a word; `refuse`: answered with 403. With such a proxy RunPod's own ComfyUI worker
waits for ever.
"""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def write(path: Path, mode: str, cut_after: float = 0.3, refuse_for: float = 11.0, *, python: str = "") -> Path:
    """The program, for the `python` of a runtime file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = Path(__file__).read_text().replace("from __future__ import annotations\n", "", 1)
    call = f"\n\nmain({python or sys.executable!r}, {mode!r}, {cut_after}, {refuse_for})\n"
    path.write_text(f"#!{sys.executable}\n{text}{call}")
    path.chmod(0o755)
    return path


def main(python: str, mode: str, cut_after: float, refuse_for: float) -> None:
    at = sys.argv.index("--port") + 1
    port = int(sys.argv[at])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        behind = int(probe.getsockname()[1])
    sys.argv[at] = str(behind)
    child = subprocess.Popen([python, *sys.argv[1:]])
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    started = time.monotonic()
    listener = socket.create_server(("127.0.0.1", port), backlog=64)

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            handler = Proxy(client, behind, mode, cut_after, refuse_for, started)
            threading.Thread(target=handler.run, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    os._exit(child.wait() & 0xFF)


class Proxy:
    first_cut = 0.0

    def __init__(
        self, client: socket.socket, behind: int, mode: str, cut_after: float, refuse_for: float, started: float
    ) -> None:
        self.client = client
        self.behind = behind
        self.mode = mode
        self.cut_after = cut_after
        self.refuse_for = refuse_for
        self.started = started

    def run(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.client.recv(65536)
            if not piece:
                return
            head += piece
        if b"upgrade: websocket" not in head.lower():
            self.pass_on(head)
        elif self.mode == "silent":
            self.silence(head)
        elif self.mode == "refuse" or (Proxy.first_cut and time.monotonic() < Proxy.first_cut + self.refuse_for):
            self.client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.client.close()
        else:
            threading.Timer(self.cut_after, self.cut).start()
            self.pass_on(head)

    def cut(self) -> None:
        Proxy.first_cut = Proxy.first_cut or time.monotonic()
        self.client.shutdown(socket.SHUT_RDWR)

    def silence(self, head: bytes) -> None:
        key = next(line.split(b":")[1].strip() for line in head.split(b"\r\n") if b"sec-websocket-key" in line.lower())
        accept = base64.b64encode(hashlib.sha1(key + GUID.encode()).digest())
        self.client.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while self.client.recv(65536):
            pass

    def pass_on(self, head: bytes) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.behind))
        except OSError:
            self.client.close()
            return
        server.sendall(head)
        threading.Thread(target=pump, args=(server, self.client), daemon=True).start()
        pump(self.client, server)


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
