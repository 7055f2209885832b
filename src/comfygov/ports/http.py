"""HTTP for model files: streams with deadlines, redirects that never carry a secret to another host."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from comfygov.errors import Code, GovError
from comfygov.ports import connections
from comfygov.ports.secrets import hidden
from comfygov.ports.source import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import urllib3
    from urllib3.connection import HTTPConnection

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10
_WITH_A_FILE = (200, 203, 206)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Limits:
    """How long a server may be silent, and how slow it may be, in seconds and bytes per second."""

    connect_seconds: float = 10.0
    silence_seconds: float = 60.0
    window_seconds: float = 60.0
    least_bytes_per_second: float = 1024.0


class HttpFailure(Exception):
    """No usable answer. `transient`: the same request may succeed a little later; `wait_seconds` is what the
    server asked for, `region` the one where S3 says that the bucket is."""

    region = ""

    def __init__(self, reason: str, *, transient: bool, status: int = 0, wait_seconds: float = 0.0) -> None:
        super().__init__(hidden(reason))
        self.transient = transient
        self.status = status
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Request:
    """One GET. `secrets` are headers for the host of `url` alone; `sign` makes them for each request anew."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    sign: Callable[[str], Mapping[str, str]] | None = None

    def secret_headers(self) -> Mapping[str, str]:
        return self.sign(self.url) if self.sign else self.secrets


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a secret belongs to."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme, 0)


def endpoint(variables: tuple[str, ...], default: str, scheme: str = "") -> str:
    """The address that the first set one of `variables` holds, else `default`, without a slash at its end. `scheme`
    is put before one that has none. Raises `bad_config` for what is no address."""
    name = next((name for name in variables if os.environ.get(name, "").strip()), "")
    given = os.environ[name].strip() if name else default
    text = (f"{scheme}://{given}" if scheme and "://" not in given else given).rstrip("/")
    try:
        is_address = origin(text)[0] in _DEFAULT_PORTS and bool(re.fullmatch(r"[\w.:\[\]-]+", _host(text)))
    except ValueError:
        is_address = False
    if not is_address:
        shown = without_credentials(given)[:200]
        raise GovError(
            Code.BAD_CONFIG, f"{name} is `{shown}`, which is no http address", f"correct it, or unset {name}"
        )
    return text


def is_loopback(url: str) -> bool:
    return origin(url)[1] in _LOOPBACK


class Answer:
    """A response whose body is read piece by piece, each read within the limits."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, history: tuple[str, ...], limits: Limits) -> None:
        self._response = response
        self._limits = limits
        self._window_started = time.monotonic()
        self._window_bytes = 0
        self.status = response.status
        self.headers = response.headers
        self.url = url
        self.history = history
        """Addresses before the last one, with what they answered in `hop_headers`."""
        self.hop_headers: list[Mapping[str, str]] = []

    def read(self, most: int) -> bytes:
        """What has come, at most `most` bytes; b"" at the end. Raises HttpFailure."""
        import urllib3

        try:
            data = self._response.read1(most, decode_content=False) or b""
        except urllib3.exceptions.HTTPError as error:
            raise HttpFailure(f"the connection broke: {_words(error)}", transient=True) from error
        except (OSError, ValueError) as error:
            raise HttpFailure(f"the connection broke: {error}", transient=True) from error
        self._mind_the_rate(len(data))
        return data

    def _mind_the_rate(self, count: int) -> None:
        self._window_bytes += count
        passed = time.monotonic() - self._window_started
        if passed < self._limits.window_seconds:
            return
        if self._window_bytes < passed * self._limits.least_bytes_per_second:
            raise HttpFailure(f"it sent {self._window_bytes} bytes in {passed:.0f} s", transient=True)
        self._window_started, self._window_bytes = time.monotonic(), 0

    def read_all(self, most: int) -> bytes:
        """A small body; HttpFailure when it is longer than `most` bytes."""
        body = b""
        while part := self.read(65_536):
            body += part
            if len(body) > most:
                raise HttpFailure(f"it sent more than {most} bytes", transient=False)
        return body

    def close(self, *, reusable: bool = False) -> None:
        """End it; the connection is kept only when the body was read to its end."""
        if reusable and getattr(self._response, "length_remaining", None) == 0:
            self._response.release_conn()
        else:
            self._response.close()


class Http:
    """Connections to all hosts of one command; usable from several threads."""

    def __init__(self, limits: Limits | None = None, connections: int = 16) -> None:
        self.limits = limits or Limits()
        self._connections = connections
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._open: weakref.WeakSet[urllib3.BaseHTTPResponse] = weakref.WeakSet()
        self._waiting: dict[HTTPConnection, bool] = {}
        self._lock = threading.Lock()
        self._aborted = False

    def get(self, request: Request, more: Mapping[str, str] | None = None) -> Answer:
        """Follow redirects to an answer below 400. Raises HttpFailure.

        Secrets go to the origin of `request.url` only; from https to http nothing is followed.
        """
        url = request.url
        history: list[str] = []
        seen: list[Mapping[str, str]] = []
        home = origin(request.url)
        for _ in range(_MAX_REDIRECTS + 1):
            headers = {"User-Agent": "comfygov", "Accept": "*/*", "Accept-Encoding": "identity"}
            headers.update({**request.headers, **(more or {})})
            if origin(url) == home and not history:
                headers.update(request.secret_headers())
            elif origin(url) == home and request.sign is None:
                headers.update(request.secrets)
            response = self._send(url, headers)
            if response.status not in _REDIRECTS or "location" not in response.headers:
                answer = Answer(response, url, tuple(history), self.limits)
                answer.hop_headers = seen
                _refuse_errors(answer)
                return answer
            history.append(url)
            seen.append(response.headers)
            location = response.headers["location"]
            response.close()
            url = _next(url, location, response.status)
        raise HttpFailure(f"it redirects more than {_MAX_REDIRECTS} times", transient=False, status=_REDIRECTS[0])

    def post(self, url: str, fields: Mapping[str, str]) -> bytes:
        """A small form to a token service; the answer's body, at most 1 MB. Raises HttpFailure."""
        import urllib3

        try:
            response = self._manager(url).request(
                "POST", url, fields=dict(fields), encode_multipart=False, redirect=False, preload_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unanswered(url, error) from error
        answer = Answer(response, url, (), self.limits)
        _refuse_errors(answer)
        return answer.read_all(1_000_000)

    def _send(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        import urllib3

        if self._aborted:
            raise HttpFailure("interrupted", transient=False)
        try:
            response = self._manager(url).request(
                "GET", url, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unanswered(url, error) from error
        except ValueError as error:
            # Its words would be the header's, with the token in them, in a form that nobody would know again.
            words = "a token that belongs to it has characters that cannot be sent (a line break?)"
            raise HttpFailure(f"{_host(url)}: {words}", transient=False) from error
        except OSError as error:
            raise HttpFailure(f"{_host(url)}: {error}", transient=False) from error
        self._watch(response)
        return response

    def _watch(self, response: urllib3.BaseHTTPResponse) -> None:
        """From now on `abort` ends it; it is ended here when that has come first."""
        with self._lock:
            self._open.add(response)
            is_too_late = self._aborted
        if is_too_late:
            response.close()
            raise HttpFailure("interrupted", transient=False)

    def _manager(self, url: str) -> urllib3.PoolManager:
        proxy = proxy_for(url)
        if proxy not in self._managers:
            self._managers[proxy] = self._new_manager(proxy)
        return self._managers[proxy]

    def _new_manager(self, proxy: str) -> urllib3.PoolManager:
        import urllib3

        timeout = urllib3.Timeout(connect=self.limits.connect_seconds, read=self.limits.silence_seconds)
        if proxy:
            manager: urllib3.PoolManager = urllib3.ProxyManager(
                proxy, timeout=timeout, retries=False, maxsize=self._connections, proxy_headers=_proxy_headers(proxy)
            )
        else:
            manager = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=self._connections)
        manager.pool_classes_by_scheme = connections.pools(self._watched)
        return manager

    @contextmanager
    def _watched(self, connection: HTTPConnection) -> Iterator[None]:
        """While the head of an answer is read: `abort` ends it, and so does the time that a server may be silent,
        for one that sends its head byte by byte is never silent and never done."""
        timer = threading.Timer(self.limits.silence_seconds, self._cut, (connection,))
        timer.daemon = True
        with self._lock:
            self._waiting[connection] = False
        timer.start()
        try:
            if self._aborted:
                raise OSError("interrupted")
            yield
        finally:
            timer.cancel()
            with self._lock:
                was_cut = self._waiting.pop(connection)
            if was_cut:
                raise TimeoutError("the head of its answer does not end")

    def _cut(self, connection: HTTPConnection) -> None:
        with self._lock:
            if connection in self._waiting:
                self._waiting[connection] = True
                connections.shut(connection)

    def abort(self) -> None:
        """End every read that is under way in any thread, and answer no more."""
        with self._lock:
            self._aborted = True
            waiting, opened = list(self._waiting), list(self._open)
        for connection in waiting:
            connections.shut(connection)
        for response in opened:
            try:
                response.shutdown()
            except (ValueError, OSError, RuntimeError):
                continue  # it was at its end, or its connection waits for the next request

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()


def proxy_for(url: str) -> str:
    """The proxy that the environment names for `url`, or "": HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY."""
    scheme, host, _ = origin(url)
    if host in _LOOPBACK:
        return ""
    unproxied = [part.strip().lstrip("*.").lower() for part in _variable("no_proxy").split(",")]
    if "*" in _variable("no_proxy") and "" in unproxied:
        return ""
    if any(part and (host == part or host.endswith(f".{part}")) for part in unproxied):
        return ""
    found = _variable(f"{scheme}_proxy") or _variable("all_proxy")
    return found if not found or "://" in found else f"http://{found}"


def _proxy_headers(proxy: str) -> dict[str, str]:
    import urllib3

    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    return dict(urllib3.make_headers(proxy_basic_auth=f"{parts.username}:{parts.password or ''}"))


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


def _next(url: str, location: str, status: int) -> str:
    try:
        target = urljoin(url, location)
        scheme = origin(target)[0]
    except ValueError as error:
        raise HttpFailure("it redirects to what is no address", transient=False, status=status) from error
    if scheme not in _DEFAULT_PORTS:
        raise HttpFailure(f"it redirects to `{scheme}:`, which is not followed", transient=False, status=status)
    if scheme == "http" and urlsplit(url).scheme.lower() == "https":
        raise HttpFailure(f"it redirects from https to http ({_host(target)})", transient=False, status=status)
    return target


def _refuse_errors(answer: Answer) -> None:
    if answer.status in _WITH_A_FILE:
        return
    transient = answer.status in (408, 425, 429) or answer.status >= 500
    wait = answer.headers.get("retry-after", "")
    answer.close()
    host = _host(answer.url)
    failure = HttpFailure(
        f"{host} answered with status {answer.status}{_meaning(answer.status)}",
        transient=transient,
        status=answer.status,
        wait_seconds=float(wait) if wait.isdigit() else 0.0,
    )
    failure.region = answer.headers.get("x-amz-bucket-region", "")
    raise failure


def _meaning(status: int) -> str:
    words = {401: "it wants a token", 403: "no right to it", 404: "not there", 410: "gone", 429: "too many requests"}
    return f" ({words[status]})" if status in words else ""


def _unanswered(url: str, error: Exception) -> HttpFailure:
    import urllib3

    wrong = urllib3.exceptions
    transient = not isinstance(error, (wrong.LocationValueError, wrong.SSLError, wrong.ProxySchemeUnknown))
    proxy = proxy_for(url)
    who = f"the proxy {_host(proxy)}" if proxy and not isinstance(error, wrong.SSLError) else _host(url)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        advice = "; SSL_CERT_FILE names the certificates of an authority that this system does not know"
        return HttpFailure(f"{who} cannot prove who it is: {_words(error)}{advice}", transient=False)
    return HttpFailure(f"{who} does not answer: {_words(error)}", transient=transient)


def _words(error: Exception) -> str:
    """urllib3's words without the objects that it prints into them."""
    text = without_credentials(str(error.args[-1] if error.args else error))
    return text.split(">: ", 1)[-1].split("): ", 1)[-1]


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
