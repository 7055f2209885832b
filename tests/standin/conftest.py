"""Starts the stand-in as a real process on a free loopback port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import pytest

from comfygov.demo.repositories import write_standin

if TYPE_CHECKING:
    from pathlib import Path

Graph = dict[str, Any]


class Png(NamedTuple):
    """What a file holds."""

    width: int
    height: int
    rows: list[bytes]
    text: dict[str, str]


def chunks(blob: bytes) -> list[tuple[bytes, bytes]]:
    """Every chunk, its checksum checked."""
    assert blob[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(blob):
        (size,) = struct.unpack(">I", blob[at : at + 4])
        kind, body = blob[at + 4 : at + 8], blob[at + 8 : at + 8 + size]
        assert struct.unpack(">I", blob[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        at += 12 + size
    return found


def decode(blob: bytes) -> Png:
    """Read it."""
    found = chunks(blob)
    assert found[0][0] == b"IHDR"
    assert found[-1] == (b"IEND", b"")
    width, height, *rest = struct.unpack(">IIBBBBB", found[0][1])
    assert rest == [8, 2, 0, 0, 0]
    raw = zlib.decompress(b"".join(body for kind, body in found if kind == b"IDAT"))
    stride = width * 3 + 1
    assert len(raw) == stride * height
    rows = [raw[y * stride + 1 : (y + 1) * stride] for y in range(height)]
    assert all(raw[y * stride] == 0 for y in range(height))
    pairs = [body.split(b"\0", 1) for kind, body in found if kind == b"tEXt"]
    return Png(width, height, rows, {key.decode(): value.decode("latin-1") for key, value in pairs})


def encode(width: int, height: int, pixels: bytes, filters: list[int], channels: int) -> bytes:
    """Write a file with the row filters None, Sub and Up, to see that the stand-in reads them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    stride, out, above = width * channels, b"", bytes(width * channels)
    for y in range(height):
        row = pixels[y * stride : (y + 1) * stride]
        left = bytes(channels) + row
        guess = {0: bytes(stride), 1: left, 2: above}[filters[y]]
        out += bytes([filters[y]]) + bytes((row[i] - guess[i]) & 255 for i in range(stride))
        above = row
    head = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(out)) + chunk(b"IEND", b"")


class Socket:
    """A websocket client by hand."""

    def __init__(self, port: int, client_id: str) -> None:
        self.raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        head = f"GET /ws?clientId={client_id} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        head += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        self.raw.sendall(head.encode())
        self.stream = self.raw.makefile("rb")
        self.answer = list(iter(self.stream.readline, b"\r\n"))

    def send(self, opcode: int, payload: bytes) -> None:
        """One masked frame."""
        mask = b"\x01\x02\x03\x04"
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.raw.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def frame(self) -> tuple[int, bytes]:
        """The next frame of the server."""
        first, size = self.stream.read(2)
        if size > 125:
            size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
        return first & 15, self.stream.read(size)

    def until(self, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """All messages up to the one asked for."""
        found: list[dict[str, Any]] = []
        while not found or not last(found[-1]):
            opcode, payload = self.frame()
            assert opcode == 1
            found.append(json.loads(payload))
        return found

    def close(self) -> None:
        """Hang up."""
        self.stream.close()
        self.raw.close()


def free_port() -> int:
    """A port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One running stand-in and its log."""

    def __init__(self, tree: Path, *flags: str) -> None:
        self.tree = tree
        self.port = free_port()
        self.log = tree.parent / f"{tree.name}-{self.port}.log"
        command = [sys.executable, "main.py", "--port", str(self.port), "--cpu", *flags]
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(command, cwd=tree, stdout=stream, stderr=stream, env=clean_env())

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text()

    def wait_ready(self, seconds: float = 20) -> Server:
        """Wait for the first answer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.text()
            try:
                if self.request("GET", "/system_stats")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"not ready: {self.text()}")

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One exchange on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        return json.loads(self.request("GET", path)[1])

    def post(self, path: str, value: Any) -> tuple[int, bytes]:
        """POST some JSON."""
        return self.request("POST", path, json.dumps(value).encode())

    def queue(self, graph: Graph, **more: Any) -> tuple[int, dict[str, Any]]:
        """POST a prompt."""
        status, body = self.post("/prompt", {"prompt": graph, **more})
        return status, json.loads(body)

    def wait(self, prompt_id: str, seconds: float = 20) -> dict[str, Any]:
        """The history entry, when it is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.get(f"/history/{prompt_id}")
            if found:
                entry: dict[str, Any] = found[prompt_id]
                return entry
            time.sleep(0.01)
        raise AssertionError(self.text())

    def run(self, graph: Graph, **more: Any) -> dict[str, Any]:
        """Queue a prompt and wait for it."""
        status, answer = self.queue(graph, **more)
        assert status == 200, answer
        return self.wait(answer["prompt_id"])

    def images(self, entry: dict[str, Any], node: str) -> list[Png]:
        """The decoded pictures of an output node, fetched through /view."""
        found = []
        for image in entry["outputs"][node]["images"]:
            status, blob = self.request("GET", "/view?" + urlencode(image))
            assert status == 200
            found.append(decode(blob))
        return found

    def socket(self, client_id: str) -> Socket:
        """A websocket."""
        return Socket(self.port, client_id)

    def upload(self, blob: bytes, name: str, **fields: str) -> tuple[int, bytes]:
        """POST a file to /upload/image."""
        parts = [f'--XX\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
        head = f'--XX\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        body = "".join(parts).encode() + head.encode() + b"Content-Type: image/png\r\n\r\n" + blob + b"\r\n--XX--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=XX"}
        return self.request("POST", "/upload/image", body, headers)

    encode = staticmethod(encode)

    def stop(self) -> None:
        """End it by its process id."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)


def clean_env() -> dict[str, str]:
    """Nothing of ours on the module path, no byte code beside the sources."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


Start = Callable[..., Server]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A fresh copy of the stand-in."""
    target = tmp_path / "ComfyUI"
    write_standin(target)
    return target


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A child must not inherit an ignored SIGINT, as it would from a shell's background job."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(tree: Path) -> Iterator[Start]:
    """Starts servers in the tree and ends them afterwards."""
    running: list[Server] = []

    def begin(*flags: str) -> Server:
        running.append(Server(tree, *flags))
        return running[-1].wait_ready()

    yield begin
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module that do not change it."""
    target = tmp_path_factory.mktemp("standin") / "ComfyUI"
    write_standin(target)
    server = Server(target).wait_ready()
    yield server
    server.stop()


@pytest.fixture
def add_pack(tree: Path) -> Callable[[str, dict[str, str]], Path]:
    """Writes a node pack into custom_nodes."""

    def add(name: str, files: dict[str, str]) -> Path:
        folder = tree / "custom_nodes" / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder

    return add
