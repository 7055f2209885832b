"""Strings that people and packs call a source, judged before git sees them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.errors import Code, GovError
from comfygov.ports.clones import submodule_source
from comfygov.ports.git import Git, Source, parse_source
from comfygov.ports.source import without_credentials

from .conftest import Refused, words_of

SECRET = "hunter2"
HOSTILE = (
    *("", "-uroot", "-u./x", "--upload-pack=touch x", "-c core.pager=x", "ext::sh -c touch% x", "fd::3", "a::b"),
    *("https://-x/", "https://-oProxyCommand=x/y", "ssh://-oProxyCommand=touch/x", "ssh://git@-oProxyCommand=x/y"),
    *("ftp://host/x", "git://host/x", "rsync://host/x", "javascript://x", "transport-helper://x"),
    *("https://host/x\n--upload-pack=y", "\thttps://host/x", "https://host/\0", "no/such/folder", "\x1b[31m"),
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_looks_like_an_option_or_a_helper_is_refused(text: str, tmp_path: Path, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE):
        parse_source(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://host/o/r.git", "https://host/o/r.git"),
        (f"https://user:{SECRET}@host:8443/o/r", "https://host:8443/o/r"),
        (f"https://{SECRET}@host/o/r", "https://host/o/r"),
        (f"https://host/o/r?token={SECRET}#{SECRET}", "https://host/o/r"),
        (f"https://user:{SECRET}@{SECRET}@host/r", "https://host/r"),
        ("ssh://git@host:22/o/r", "ssh://git@host:22/o/r"),
        (f"ssh://git:{SECRET}@host/o/r", "ssh://host/o/r"),
        ("git@github.com:o/r.git", "git@github.com:o/r.git"),
        ("file:///srv/r", "file:///srv/r"),
    ],
)
def test_what_is_shown_and_stored_holds_no_credentials(text: str, public: str, tmp_path: Path) -> None:
    source = parse_source(text, tmp_path)
    assert (source.fetch_url, source.public) == (text, public)
    assert source.local == text.startswith("file:")


def test_a_folder_is_meant_from_the_base(tmp_path: Path) -> None:
    (tmp_path / "a" / "pack").mkdir(parents=True)
    for text in ("a/pack", "./a/pack", "a/../a/pack/", str(tmp_path / "a" / "pack")):
        assert parse_source(text, tmp_path) == Source(str(tmp_path / "a/pack"), str(tmp_path / "a/pack"), local=True)


@pytest.mark.parametrize(
    "text", ["https://host:port/x", "https://[x/y", "https://h:99999/x", "~no-such-user/x", "a" * 5000]
)
def test_a_text_that_the_library_cannot_split_is_a_bad_source(text: str, tmp_path: Path, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE):
        parse_source(text, tmp_path)


@pytest.mark.parametrize("text", ["https://[::1]:3000/o/r", "https://[fe80:1:2:3:4:5:6:7]/o/r"])
def test_an_ipv6_address_is_a_source(text: str, tmp_path: Path) -> None:
    assert parse_source(text, tmp_path).public == text


PARTS = st.sampled_from(
    ["https://", "ssh://", "file://", "git@", "host", ":", "/", "-", "@", "x", "?", "#", ".", " ", "~"]
)


@given(st.one_of(st.text(max_size=30), st.lists(PARTS, max_size=9).map("".join)))
def test_what_is_taken_never_starts_like_an_option(text: str) -> None:
    try:
        source = parse_source(text, Path("/"))
    except GovError as error:
        assert error.code is Code.BAD_SOURCE  # noqa: PT017
    else:
        assert not source.fetch_url.startswith("-")
        assert "::" not in source.fetch_url


@pytest.mark.parametrize("text", [f"ext::https://u:{SECRET}@h/x", f"ftp://u:{SECRET}@h/x", f"https://u:{SECRET}@-x/"])
def test_a_refusal_does_not_repeat_credentials(text: str, tmp_path: Path, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE) as caught:
        parse_source(text, tmp_path)
    assert SECRET not in words_of(caught.value)


@pytest.mark.parametrize(
    "text", [f"https:/u:{SECRET}@h/x", f"u:{SECRET}@h:x", f"ftp://u:p@{SECRET}@h/x", f"ftp://h/x?token={SECRET}"]
)
def test_a_refusal_of_a_mistyped_url_does_not_repeat_credentials(text: str, tmp_path: Path, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE) as caught:
        parse_source(text, tmp_path)
    assert SECRET not in words_of(caught.value)


def test_credentials_are_removed_from_every_url_of_a_text() -> None:
    text = f"fatal: 'https://u:{SECRET}@h/x' and ssh://{SECRET}@h:1/y?z"
    assert without_credentials(text) == "fatal: 'https://h/x' and ssh://h:1/y"
    assert without_credentials("mail@host is no URL") == "mail@host is no URL"


@pytest.fixture
def forge(request: pytest.FixtureRequest) -> Iterator[str]:
    """Answers every request with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            if request.param == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("forge", "code"), [(404, Code.BAD_SOURCE), (401, Code.BAD_SOURCE), (500, Code.NETWORK)], indirect=["forge"]
)
def test_a_failed_fetch_tells_why_and_no_credentials(forge: str, code: Code, git: Git, refused: Refused) -> None:
    with refused(code) as caught:
        git.fetch(parse_source(f"http://user:{SECRET}@{forge}/o/r", Path("/")))
    assert SECRET not in words_of(caught.value)
    assert f"http://{forge}/o/r" in caught.value.message
    assert not [path for path in git.cache.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]


@pytest.mark.parametrize("forge", [404], indirect=True)
def test_a_failed_fetch_does_not_repeat_a_token_in_the_query(forge: str, git: Git, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE) as caught:
        git.fetch(parse_source(f"http://{forge}/o/r?token={SECRET}", Path("/")))
    assert SECRET not in words_of(caught.value)


def test_nobody_listening_is_network(git: Git, refused: Refused) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with refused(Code.NETWORK):
            git.fetch(parse_source(f"http://127.0.0.1:{free.getsockname()[1]}/o/r", Path("/")))


REMOTE = Source("https://host/owner/super", "https://host/owner/super", local=False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        *(("../sub.git", "https://host/owner/sub.git"), ("./sub", "https://host/owner/super/sub")),
        *(("../../other/sub", "https://host/other/sub"), ("https://else/x", "https://else/x")),
    ],
)
def test_a_relative_submodule_starts_at_its_parent(url: str, expected: str) -> None:
    assert submodule_source(REMOTE, url).fetch_url == expected


@pytest.mark.parametrize("url", ["-x", "ext::sh -c x", "--upload-pack=x", "https://-x/", ".././-x/../::y", ""])
def test_a_hostile_submodule_is_refused(url: str, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE):
        submodule_source(REMOTE, url)


@pytest.mark.parametrize("url", ["/tmp", "file:///tmp", "../../../../../tmp"])
def test_a_submodule_of_a_remote_pack_is_no_local_folder(url: str, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE):
        submodule_source(REMOTE, url)


def test_a_relative_submodule_of_an_scp_source_stays_on_its_host(tmp_path: Path) -> None:
    source = Source("git@host:super", "git@host:super", local=False)
    assert submodule_source(source, "../sub").fetch_url == "git@host:sub"
