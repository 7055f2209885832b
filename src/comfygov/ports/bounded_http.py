"""HTTP connections to a server that may mean harm: the beginning of an answer does not take for ever either."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import urllib3
from urllib3.connection import HTTPConnection

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

HEAD_SECONDS = 120.0
"""How long status and headers may take altogether: timeouts of sockets begin again with every byte."""


class _Connection(HTTPConnection):
    _was_cut = False

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        timer = threading.Timer(HEAD_SECONDS, self._cut)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if self._was_cut:
                raise urllib3.exceptions.ProtocolError("its answer begins without end")

    def _cut(self) -> None:
        self._was_cut = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            return  # it is gone already


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


def pool_manager(timeout: urllib3.Timeout) -> urllib3.PoolManager:
    """Connections without retries."""
    made = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=2)
    made.pool_classes_by_scheme = {"http": _Pool, "https": urllib3.HTTPSConnectionPool}
    return made
