"""Which addresses a job may make the worker fetch."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfygov.delivery import addresses
from comfygov.delivery.deadline import Deadline
from comfygov.delivery.failure import JobFailed

PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1"),
    *("fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("2002:7f00:1::", "2002:a00:1::", "2001:0:7f00:1::", "fe80::1%eth0"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_none_of_the_internet(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is(address: str) -> None:
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://localhost/"),
        *(
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://user:pw@example.com/",
            "ftp://example.com/",
            "http://",
        ),
        *(
            "http://example.com:99999/",
            "http://[::1/",
            "file:///etc/passwd",
            "gopher://x/",
            "http://:80/",
            "http://a:0/",
        ),
    ],
)
def test_an_address_written_oddly_is_refused(url: str) -> None:
    with pytest.raises(JobFailed) as refused:
        list(addresses.fetch(url, 100, Deadline(5), allow_private=False))
    assert refused.value.error.code in ("bad_url", "input_failed")
    assert "pw" not in refused.value.error.message


Resolver = Callable[..., list[Any]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name server of the test: a name has these addresses."""
    table: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **more: Any) -> list[Any]:
        if host not in table:
            return real(host, port, *args, **more)
        return [found for address in table[host] for found in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


def test_a_name_that_means_a_private_address_is_refused(names: dict[str, list[str]]) -> None:
    names["inside.example"] = ["10.1.2.3"]
    names["both.example"] = ["8.8.8.8", "192.168.0.1"]
    for name in names:
        with pytest.raises(JobFailed, match="which is no public address"):
            list(addresses.fetch(f"http://{name}/", 100, Deadline(5), allow_private=False))


class _Server(http.server.BaseHTTPRequestHandler):
    hosts: list[str]

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"x" * 50_000
        self.send_response(200 if self.path == "/file" else 404)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[int, list[str]]]:
    hosts: list[str] = []
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Server", (_Server,), {"hosts": hosts}))
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield listening.server_address[1], hosts
    listening.shutdown()
    listening.server_close()
    thread.join(5)


def test_a_redirect_is_judged_like_the_first_address(
    names: dict[str, list[str]], server: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, hosts = server
    names["public.example"] = ["127.0.0.1"]  # a public server, as far as the rule is concerned
    names["inside.example"] = ["127.0.0.1"]
    judged: list[str] = []

    def is_public(address: str) -> bool:
        judged.append(address)
        return len(judged) == 1

    monkeypatch.setattr(addresses, "is_public", is_public)
    url = f"http://public.example:{port}/to/http://inside.example:{port}/file"
    with pytest.raises(JobFailed, match=r"`inside.example` is 127.0.0.1"):
        list(addresses.fetch(url, 100_000, Deadline(5), allow_private=False))
    assert hosts == [f"public.example:{port}"], "the second was never asked"


def test_what_is_allowed_is_fetched_within_its_bounds(server: tuple[int, list[str]]) -> None:
    port, _ = server
    base = f"http://127.0.0.1:{port}"
    assert len(b"".join(addresses.fetch(f"{base}/file", 50_000, Deadline(5), allow_private=True))) == 50_000
    assert len(b"".join(addresses.fetch(f"{base}/to//file", 50_000, Deadline(5), allow_private=True))) == 50_000
    for url, most, words in (
        (f"{base}/file", 49_999, "larger than 49,999 bytes"),
        (f"{base}/none", 50_000, "answered with status 404"),
        (f"{base}/to/{base}/to/{base}/to/{base}/to/{base}/to/{base}/to/{base}/file", 99_999, "redirects more than"),
        (f"{base}/to/file:///etc/passwd", 50_000, "only http and https"),
    ):
        with pytest.raises(JobFailed, match=words):
            list(addresses.fetch(url, most, Deadline(5), allow_private=True))
    with pytest.raises(JobFailed) as late:
        list(addresses.fetch(f"{base}/file", 50_000, Deadline(0), allow_private=True))
    assert late.value.error.code == "timeout"


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_sends_a_byte_now_and_then_does_not_outlast_the_deadline(begin: bytes) -> None:
    """Of a header, or of the body."""
    gone = threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(begin)
                for _ in range(40):
                    connection.sendall(b"x")
                    gone.wait(0.1)
            except OSError:
                gone.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(JobFailed, match=r"did not end in 0.4 s: .* was being fetched") as late:
            list(addresses.fetch(url, 1000, Deadline(0.4), allow_private=True))
        assert late.value.error.code == "timeout"
        thread.join(10)
        assert gone.is_set(), "the connection was ended from here"
