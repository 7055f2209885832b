"""A real HTTP server on loopback that serves files, and misbehaves as a test tells it to."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    """One request that arrived."""

    path: str
    headers: dict[str, str]


@dataclass
class File:
    """What one path serves. `drop_after` ends the connection after so many bytes of a body, `drops` times;
    `refuse` are status codes that the first requests get; `on_request` may change anything, before each answer."""

    data: bytes = b""
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    content_type: str = "application/octet-stream"
    chunked: bool = False
    endless: bool = False
    unframed: bool = False
    drip_seconds: float = 0.0
    block: int = 65_536
    said_length: int | None = None
    drop_after: int | None = None
    drops: int = 1_000_000
    refuse: list[int] = field(default_factory=list)
    redirect: str | None = None
    redirect_status: int = 302
    wants: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    shift: int = 0
    """Answers ranges that begin so many bytes later than asked."""
    on_request: Callable[[File, Seen], None] | None = None


class ModelServer:
    """`files` by path. `seen` is every request in order."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, File] = {}
        self.seen: list[Seen] = []
        self.sent = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            server_of_tests = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.base = f"http://127.0.0.1:{self.port}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self.base = f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def serve(self, path: str, data: bytes = b"", **options: Any) -> str:
        """The URL of a new file."""
        self.files[path] = File(data, **options)
        return self.base + path

    def requests(self, path: str) -> list[Seen]:
        return [one for one in self.seen if one.path == path]

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def count(self, sent: int) -> None:
        with self._lock:
            self.sent += sent

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_tests: ModelServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its own name)
        pass

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.do_GET()

    def do_GET(self) -> None:
        seen = Seen(self.path, {name.lower(): value for name, value in self.headers.items()})
        self.server_of_tests.note(seen)
        path = self.path.partition("?")[0]
        file = self.server_of_tests.files.get(self.path) or self.server_of_tests.files.get(path)
        if file is None:
            self._plain(404)
            return
        if file.on_request:
            file.on_request(file, seen)
        if file.refuse:
            self._plain(file.refuse.pop(0))
        elif any(seen.headers.get(name) != value for name, value in file.wants.items()):
            self._plain(401)
        elif file.redirect is not None:
            self._plain(file.redirect_status, {"Location": file.redirect, **file.headers})
        else:
            self._answer(file, seen)

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, file: File, seen: Seen) -> None:
        start, end = 0, len(file.data)
        partial = self._range(file, seen)
        if partial is not None:
            start, end = partial
            if start >= len(file.data):
                self._plain(416, {"Content-Range": f"bytes */{len(file.data)}"})
                return
        start = min(start + (file.shift if partial else 0), len(file.data))
        self.send_response(206 if partial else 200)
        self._headers(file, start, end, is_partial=partial is not None)
        self._body(file, file.data[start:end])

    def _range(self, file: File, seen: Seen) -> tuple[int, int] | None:
        asked = seen.headers.get("range", "")
        if not file.ranges or not asked.startswith("bytes="):
            return None
        condition = seen.headers.get("if-range")
        if condition and condition not in (file.etag, file.last_modified):
            return None
        first, _, last = asked.removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1 if last else len(file.data), len(file.data))

    def _headers(self, file: File, start: int, end: int, *, is_partial: bool) -> None:
        self.send_header("Content-Type", file.content_type)
        for name, value in (("ETag", file.etag), ("Last-Modified", file.last_modified), *file.headers.items()):
            if value is not None:
                self.send_header(name, value)
        if is_partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(file.data)}")
        if file.chunked or file.endless:
            self.send_header("Transfer-Encoding", "chunked")
        elif file.unframed:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(end - start if file.said_length is None else file.said_length))
        self.end_headers()

    def _body(self, file: File, data: bytes) -> None:
        sent = 0
        for block in _blocks(file, data):
            limit = file.drop_after if file.drops > 0 else None
            if limit is not None and sent + len(block) > limit:
                self._write(file, block[: limit - sent])
                file.drops -= 1
                self.close_connection = True
                self.connection.close()
                return
            self._write(file, block)
            sent += len(block)
            if file.drip_seconds:
                time.sleep(file.drip_seconds)
        if file.chunked:
            self.wfile.write(b"0\r\n\r\n")
        if file.said_length is not None:
            self.close_connection = True

    def _write(self, file: File, block: bytes) -> None:
        if file.chunked or file.endless:
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        else:
            self.wfile.write(block)
        self.wfile.flush()
        self.server_of_tests.count(len(block))


def _blocks(file: File, data: bytes) -> Iterator[bytes]:
    while True:
        yield from (data[at : at + file.block] for at in range(0, len(data), file.block))
        if not file.endless:
            return


@contextmanager
def model_server(tls: ssl.SSLContext | None = None) -> Iterator[ModelServer]:
    """With `tls` it is called localhost, as its certificate has to say."""
    server = ModelServer(tls)
    try:
        yield server
    finally:
        server.stop()
