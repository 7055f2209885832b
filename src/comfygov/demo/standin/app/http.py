# ruff: noqa: N815 - method names are given by http.server
"""The HTTP side: reading requests, finding the route (also below /api), writing answers."""

from __future__ import annotations

import json
import logging
import re
import socket
import socketserver
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

log = logging.getLogger("comfyui")
LOOPBACK = {"localhost", "::1"}


class TooLargeError(Exception):
    """The body is larger than --max-upload-size."""


@dataclass
class Request:
    """What a route sees."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes
    match: tuple[str, ...] = ()

    def json(self) -> Any:  # noqa: ANN401
        """The body as JSON; a bad one raises."""
        return json.loads(self.body)


@dataclass
class Response:
    """What a route answers."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


def json_response(value: Any, status: int = 200) -> Response:  # noqa: ANN401
    """An answer in JSON."""
    return Response(status, json.dumps(value).encode(), "application/json; charset=utf-8")


def text_response(text: str, status: int = 200) -> Response:
    """An answer in plain text."""
    return Response(status, text.encode(), "text/plain; charset=utf-8")


Route = Callable[[Request], Response]


class Routes:
    """The table of routes, in the order they were added; `{name}` stands for one path segment."""

    def __init__(self) -> None:
        self.table: list[tuple[str, re.Pattern[str], Route]] = []

    def add(self, method: str, path: str, function: Route) -> None:
        """Add one."""
        pattern = re.sub(r"\{(\w+):path\}", "(.+)", path)
        pattern = re.sub(r"\{\w+\}", "([^/]+)", pattern)
        self.table.append((method, re.compile(f"(?:/api)?{pattern}"), function))

    def find(self, method: str, path: str) -> tuple[Route | None, tuple[str, ...], bool]:
        """The route and what it matched; the flag says that another method would have been served."""
        other = False
        for known, pattern, function in self.table:
            match = pattern.fullmatch(path)
            if match and (known == method or (known == "GET" and method == "HEAD")):
                return function, tuple(unquote(x) for x in match.groups()), False
            other = other or match is not None
        return None, (), other


def foreign_origin(headers: Any) -> bool:  # noqa: ANN401
    """Say whether a page of another site talks to a loopback server."""
    host, origin = headers.get("Host"), headers.get("Origin")
    if not host or not origin:
        return False
    here, there = urlsplit("//" + host.lower()), urlsplit(origin.lower())
    if here.hostname not in LOOPBACK and not str(here.hostname).startswith("127."):
        return False
    if not there.hostname:
        return False
    same_port = there.port is None or here.port is None or here.port == there.port
    if here.hostname != there.hostname or not same_port:
        log.warning("WARNING: request with non matching host and origin %s != %s, returning 403", host, origin)
        return True
    return False


class Handler(BaseHTTPRequestHandler):
    """One connection; the class attributes are set by `serve`."""

    protocol_version = "HTTP/1.1"
    server_version = "ComfyUI-stand-in/1"
    disable_nagle_algorithm = True
    routes: Routes
    websocket: Callable[[BaseHTTPRequestHandler, dict[str, str]], None]
    cors: str | None = None
    maximum = 100 * 1024 * 1024

    def log_message(self, *_: Any) -> None:  # noqa: ANN401
        """No access log."""

    def _chunks(self) -> bytes:
        parts, total = [], 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += size
            if total > self.maximum:
                raise TooLargeError
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        size = int(self.headers.get("Content-Length") or 0)
        if size > self.maximum:
            raise TooLargeError
        return self.rfile.read(size)

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        return Request(self.command, parts.path, query, self.headers, self._body())

    def _answer(self, request: Request) -> Response:
        if self.cors is None and foreign_origin(self.headers):
            return Response(403)
        if self.command == "OPTIONS":
            return Response()
        function, match, other = self.routes.find(self.command, request.path)
        if function is None:
            return text_response("405: Method Not Allowed", 405) if other else text_response("404: Not Found", 404)
        request.match = match
        return function(request)

    def _guarded(self) -> Response:
        try:
            return self._answer(self._request())
        except TooLargeError:
            self.close_connection = True
            return text_response("Maximum request body size exceeded", 413)
        except Exception:
            log.error("Error handling request\n%s", traceback.format_exc())  # noqa: TRY400 - no extra record
            return text_response("500 Internal Server Error\n\nServer got itself in trouble", 500)

    def _write(self, response: Response) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        if self.cors is not None:
            self.send_header("Access-Control-Allow-Origin", self.cors)
            self.send_header("Access-Control-Allow-Methods", "POST, GET, DELETE, PUT, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Content-Type, Authorization")
            self.send_header("Access-Control-Allow-Credentials", "true")
        for name, value in response.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def _any(self) -> None:
        self._write(self._guarded())

    def do_GET(self) -> None:
        """Websockets go their own way."""
        parts = urlsplit(self.path)
        upgrade = self.headers.get("Upgrade", "").lower() == "websocket"
        if not upgrade or parts.path not in {"/ws", "/api/ws"} or (self.cors is None and foreign_origin(self.headers)):
            self._any()
            return
        self.close_connection = True
        type(self).websocket(self, {k: v[0] for k, v in parse_qs(parts.query).items()})

    do_POST = do_HEAD = do_OPTIONS = do_PUT = do_DELETE = do_PATCH = _any


class WebServer(socketserver.ThreadingMixIn, HTTPServer):
    """A thread per connection; no name look-ups."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind without asking DNS for our name."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """A client that went away is nothing to shout about."""
        log.debug("connection ended: %s", traceback.format_exc())


def listen(address: str, port: int, handler: type[Handler]) -> WebServer:
    """A server bound to one address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = type("BoundServer", (WebServer,), {"address_family": family})
    server: WebServer = kind((address, port), handler)
    return server
