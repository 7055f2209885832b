"""urllib3's connections, but watched while they wait for the head of an answer, and only content with a whole one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from urllib3.connection import HTTPConnection


def shut(connection: HTTPConnection) -> None:
    """Whoever reads from it finds its end."""
    open_socket = connection.sock
    try:
        if open_socket is not None:
            open_socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was at its end


def pools(watched: Callable[[HTTPConnection], AbstractContextManager[None]]) -> dict[str, Any]:
    """The classes of urllib3's pools by scheme, for `PoolManager.pool_classes_by_scheme`."""
    from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    head = _whole_head()

    class Plain(HTTPConnection):
        response_class = head

        def getresponse(self) -> HTTPResponse:  # type: ignore[override] # (urllib3 does so)
            with watched(self):
                return super().getresponse()

    class Encrypted(HTTPSConnection):
        response_class = head

        def getresponse(self) -> HTTPResponse:  # type: ignore[override] # (urllib3 does so)
            with watched(self):
                return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


class _Lines:
    """What the head of an answer is read from; `last` is the line that was read last."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.last = b""

    def readline(self, most: int = -1) -> bytes:
        self.last = self._file.readline(most)
        return self.last

    def close(self) -> None:
        self._file.close()


def _whole_head() -> type:
    """http.client takes a head that breaks off for a whole one, and what it did not say for not meant: a body that has
    no length, a part that begins anywhere."""
    from http.client import HTTPResponse

    class WholeHead(HTTPResponse):
        fp: Any

        def begin(self) -> None:
            file, lines = self.fp, _Lines(self.fp)
            self.fp = lines
            try:
                super().begin()
            finally:
                self.fp = file if self.fp is lines else None
            if lines.last not in (b"\r\n", b"\n"):
                raise ConnectionError("the head of its answer breaks off")

    return WholeHead
