"""Downloads over TLS, from a server whose certificate a test made itself."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfygov.errors import GovError
from comfygov.ports.http import Answer
from tests.kit.model_server import ModelServer, model_server
from tests.unit.test_model_transfer import DATA, MB, Fetching, sum_of

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not on PATH")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, its key behind it in the same file; it is its own authority."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{path}.key", "-out", str(path)]
    subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *subject], check=True, capture_output=True)
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[ModelServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, f"{certificate}.key")
    with model_server(context) as made:
        yield made


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetching:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Fetching(tmp_path)


def test_a_certificate_that_nobody_knows_is_refused_at_once(fetch: Fetching, server: ModelServer) -> None:
    said = fetch.refused(server.serve("/m", DATA))
    assert "cannot prove who it is" in said
    assert "SSL_CERT_FILE" in said
    assert server.seen == []


@pytest.mark.usefixtures("trusted")
def test_pieces_and_connections_that_break(fetch: Fetching, server: ModelServer) -> None:
    fetch(server.serve("/m", DATA, drop_after=MB // 3, drops=4), checksum=sum_of(DATA))
    fetch.has(DATA)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_host_is_refused(fetch: Fetching, server: ModelServer) -> None:
    url = server.serve("/m", DATA).replace("localhost", "127.0.0.1")
    assert "cannot prove who it is" in fetch.refused(url)


@pytest.mark.usefixtures("trusted")
def test_nothing_is_followed_from_https_to_http(fetch: Fetching, server: ModelServer) -> None:
    with model_server() as plain:
        url = server.serve("/m", redirect=plain.serve("/m", DATA))
        assert "from https to http" in fetch.refused(url)
        assert plain.seen == []


@pytest.mark.usefixtures("trusted")
def test_what_is_read_after_an_interrupt_is_no_content(
    fetch: Fetching, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TLS socket that is shut gives out what has come in as it came: encrypted."""
    url = server.serve("/m", DATA)
    read, calls = Answer.read, []

    def read_late(answer: Answer, most: int) -> bytes:
        calls.append(most)
        if len(calls) == 4:
            fetch.stop.now()
        return read(answer, most)

    with monkeypatch.context() as late:
        late.setattr(Answer, "read", read_late)
        with pytest.raises(GovError, match="interrupted"):
            fetch(url)
    got = Fetching(tmp_path)(url)
    assert got.checksum == sum_of(DATA)
    assert got.received < len(DATA)
