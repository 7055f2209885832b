"""Addresses that a job may make this machine fetch: public ones, judged again at every redirect.

A name is resolved once and the connection goes to the very address that was judged: a name server that answers
differently a moment later (DNS rebinding) changes nothing. Proxies of the environment are not used, since what a
proxy connects to cannot be judged here.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from comfygov.delivery.failure import JobFailed
from comfygov.ports.source import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

    import urllib3

    from comfygov.delivery.deadline import Deadline

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_PIECE_BYTES = 1 << 16
_HINT = "the worker takes them with --allow-private-urls"


class Refused(JobFailed):
    """An address that this worker does not fetch."""

    def __init__(self, url: str, reason: str, hint: str = "") -> None:
        super().__init__("bad_url", f"{shown(url)} is not fetched: {reason}", hint)


def shown(url: str) -> str:
    """An address in a message: without credentials and query, which may be a signature."""
    return without_credentials(url)[:200]


def fetch(url: str, most_bytes: int, deadline: Deadline, *, allow_private: bool) -> Iterator[bytes]:
    """The body behind `url`, piece by piece. Raises JobFailed `bad_url`, `input_failed` or `timeout`."""
    import urllib3

    during = f"{shown(url)} was being fetched"
    with _watched(deadline) as sockets:
        try:
            yield from _pieces(url, most_bytes, deadline, sockets, allow_private=allow_private)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            deadline.check(during)
            raise JobFailed("input_failed", f"{shown(url)} broke off: {error}", retryable=True) from error
        except JobFailed:
            deadline.check(during)  # why the connection ended
            raise
        deadline.check(during)  # what was cut off may look whole


def _pieces(
    url: str, most_bytes: int, deadline: Deadline, sockets: list[socket.socket], *, allow_private: bool
) -> Iterator[bytes]:
    response, pool = _open(url, deadline, sockets, allow_private=allow_private)
    with ExitStack() as stack:
        stack.callback(pool.close)
        stack.callback(response.close)
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > most_bytes:
            raise _too_large(url, most_bytes)
        total = 0
        while piece := response.read1(_PIECE_BYTES, decode_content=False):
            total += len(piece)
            if total > most_bytes:
                raise _too_large(url, most_bytes)
            yield piece


@contextmanager
def _watched(deadline: Deadline) -> Iterator[list[socket.socket]]:
    """Sockets that are shut when the job has to be over: a server that sends a byte now and then, and be it of its
    headers, never lets a read time out."""
    sockets: list[socket.socket] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            if deadline.is_over:
                for one in sockets:
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=watch, daemon=True, name="input watch")
    thread.start()
    try:
        yield sockets
    finally:
        done.set()
        thread.join()
        for one in sockets:
            one.close()


def _too_large(url: str, most_bytes: int) -> JobFailed:
    return JobFailed("input_failed", f"{shown(url)} is larger than {most_bytes:,} bytes")


def _open(
    url: str, deadline: Deadline, sockets: list[socket.socket], *, allow_private: bool
) -> tuple[urllib3.BaseHTTPResponse, urllib3.HTTPConnectionPool]:
    for _ in range(_MAX_REDIRECTS + 1):
        deadline.check(f"{shown(url)} was being fetched")
        response, pool = _request(url, deadline, sockets, allow_private=allow_private)
        location = response.headers.get("location")
        if response.status not in _REDIRECTS or not location:
            if response.status == 200:
                return response, pool
            response.close()
            pool.close()
            again = response.status in (408, 429) or response.status >= 500
            message = f"{shown(url)} answered with status {response.status}"
            raise JobFailed("input_failed", message, retryable=again)
        response.close()
        pool.close()
        url = urljoin(url, location)
    raise Refused(url, f"it redirects more than {_MAX_REDIRECTS} times")


def _request(
    url: str, deadline: Deadline, sockets: list[socket.socket], *, allow_private: bool
) -> tuple[urllib3.BaseHTTPResponse, urllib3.HTTPConnectionPool]:
    import urllib3

    parts = _parts(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    address = resolve(url, host, port, allow_private=allow_private)
    seconds = max(0.1, min(_SILENCE_SECONDS, deadline.left()))
    timeout = urllib3.Timeout(connect=min(_CONNECT_SECONDS, seconds), read=seconds)
    pool: urllib3.HTTPConnectionPool
    if parts.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(
            address, port, timeout=timeout, retries=False, server_hostname=host, assert_hostname=host
        )
    else:
        pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout, retries=False)
    pool.ConnectionCls = _noting(pool.ConnectionCls, sockets)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = f"[{host}]" if ":" in host else host
    headers = {"Host": name if port == _PORTS[parts.scheme] else f"{name}:{port}", "User-Agent": "comfygov"}
    try:
        answer = pool.request(
            "GET",
            target,
            headers={**headers, "Accept-Encoding": "identity"},
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        pool.close()
        raise JobFailed("input_failed", f"{shown(url)} does not answer: {error}", retryable=True) from error
    return answer, pool


def _noting(kind: Any, sockets: list[socket.socket]) -> Any:  # noqa: ANN401 (urllib3's connection classes)
    """A class of connections that adds its sockets to `sockets`, before anything is said on them."""

    class Noting(kind):  # type: ignore[misc] # of Any
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            sockets.append(made.dup())  # TLS takes the first one over
            return made

    return Noting


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(url, "it is no address") from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise Refused(url, "only http and https addresses are")
    if parts.username or parts.password:
        raise Refused(url, "it holds credentials")
    return parts


def resolve(url: str, host: str, port: int, *, allow_private: bool) -> str:
    """The address to connect to. All addresses of a name must be public: which one is taken would be chance."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise JobFailed("input_failed", f"{shown(url)}: there is no host `{host[:100]}`", retryable=True) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise Refused(url, f"`{host[:100]}` is {address}, which is no public address", _HINT)
    return addresses[0]


def is_public(address: str) -> bool:
    """True for an address of the internet: not private, shared, link-local, loopback, multicast or reserved, and no
    IPv6 form of such an IPv4 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)
