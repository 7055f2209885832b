"""Package indexes on loopback, as static folders: the simple repository API (PEP 503), with sums as real ones have."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.kit.wheels import add_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(root: Path, wheels: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """The base address of indexes that hold `wheels`: (index, package, version)."""
    for place, name, version in wheels:
        put(root, place, name, version)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def put(root: Path, place: str, name: str, version: str) -> None:
    """Add a wheel to an index."""
    directory = root / place / name
    add_wheel(directory, name, version)
    links = [_link(wheel) for wheel in sorted(directory.glob("*.whl"))]
    (directory / "index.html").write_text("".join(links))


def _link(wheel: Path) -> str:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f'<a href="{wheel.name.replace("+", "%2B")}#sha256={digest}">{wheel.name}</a>'
