"""Sources: what is taken, where the bytes are asked for, and to whom a token goes."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfygov.errors import Code, GovError
from comfygov.models import gcs, s3
from comfygov.models.sources import parse
from comfygov.ports.http import proxy_for
from tests.kit.model_server import ModelServer, Seen, model_server
from tests.unit.conftest import Refused
from tests.unit.test_model_transfer import DATA, Fetching, sum_of

TOKEN = "hf_topsecret_1234567890"
_VARIABLES = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_API_TOKEN", "HF_ENDPOINT", "CIVITAI_TOKEN", "CIVITAI_API_TOKEN"),
    *("CIVITAI_ENDPOINT", "STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_OAUTH_ACCESS_TOKEN"),
    *("CLOUDSDK_AUTH_ACCESS_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *(
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "NETRC",
        "http_proxy",
        "HTTP_PROXY",
    ),
    *("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"),
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "user"))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as made:
        yield made


@pytest.fixture
def other() -> Iterator[ModelServer]:
    """Another host: another port is another origin."""
    with model_server() as made:
        yield made


@pytest.fixture
def fetch(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


HF = "https://huggingface.co/org/repo/resolve"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("hf://org/repo/a/b.safetensors", f"{HF}/main/a/b.safetensors"),
        ("hf://org/repo/a/b.safetensors@v1.0", f"{HF}/v1.0/a/b.safetensors"),
        ("hf://org/repo/b.safetensors@refs/pr/3", f"{HF}/refs%2Fpr%2F3/b.safetensors"),
        ("hf://org/repo@abc/b c.safetensors", f"{HF}/abc/b%20c.safetensors"),
        ("hf://datasets/org/repo/x.pt", "https://huggingface.co/datasets/org/repo/resolve/main/x.pt"),
        ("https://huggingface.co/org/repo/blob/main/x.pt", f"{HF}/main/x.pt"),
        ("https://huggingface.co/org/repo/resolve/main/x.pt?download=true", f"{HF}/main/x.pt"),
        ("http://hf.co/org/repo/resolve/main/x%20y.pt", f"{HF}/main/x%20y.pt"),
        ("civitai://123", "https://civitai.com/api/download/models/123"),
        ("https://civitai.com/models/5/name?modelVersionId=7", "https://civitai.com/api/download/models/7"),
        (
            "https://civitai.com/api/download/models/7?type=Model&format=SafeTensor&x=1",
            "https://civitai.com/api/download/models/7?type=Model&format=SafeTensor",
        ),
        ("gs://bucket/a/b c", "bucket/a/b c"),
        ("s3://my.bucket/k", "my.bucket/k"),
        ("https://example.org/x.pt?a=1#part", "https://example.org/x.pt?a=1"),
        ("file:///a/b%20c", "/a/b c"),
        ("rel/x.pt", "/base/rel/x.pt"),
        ("/abs/x.pt", "/abs/x.pt"),
    ],
)
def test_forms_that_are_taken(text: str, location: str) -> None:
    assert parse(text, Path("/base")).location == location


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "ftp://h/x", "javascript://x", "hf://org/repo", "hf://org", "hf://org/../x", "hf://org/repo/../x"),
        *(
            "hf://org/repo/x@../../y",
            "civitai://",
            "civitai://12a",
            "civitai://\uff11\uff12",
            "https://civitai.com/models/5",
        ),
        *("https://huggingface.co/org/repo", "gs://", "gs://bucket", "gs://bucket/", "s3:///key", "s3://-b/k"),
        *("https://", "https:///x", "https://user:pw@h/x", "https://h/x?token=abc", "https://h/x?X-Amz-Signature=1"),
        *("file://host/x", "https://h/x\n", "https://h:99999/x", "x\0y", "x" * 5000),
    ],
)
def test_forms_that_are_refused(text: str, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE) as caught:
        parse(text, Path("/base"))
    assert "pw@" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_token_goes_to_its_host_and_not_across_a_redirect(
    fetch: Fetching, server: ModelServer, other: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", server.base)
    server.serve(
        "/org/repo/resolve/main/m.bin", redirect=f"{other.base}/cdn/m.bin", wants={"authorization": f"Bearer {TOKEN}"}
    )
    other.serve("/cdn/m.bin", DATA)
    fetch("hf://org/repo/m.bin")
    fetch.has(DATA)
    assert all("authorization" in one.headers for one in server.seen)
    assert other.seen
    assert TOKEN not in repr(other.seen)


def test_a_token_comes_back_to_its_host_only_by_a_redirect_to_it(
    fetch: Fetching, server: ModelServer, other: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", server.base)
    server.serve("/real", DATA, wants={"authorization": f"Bearer {TOKEN}"})
    server.serve("/org/repo/resolve/main/m.bin", redirect="/real")
    fetch("hf://org/repo/m.bin")
    fetch.has(DATA)


def test_a_token_does_not_go_to_another_host_of_a_spec(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "CIVITAI_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    fetch(server.serve("/org/repo/resolve/main/m.bin", DATA))
    assert TOKEN not in repr(server.seen)


def test_a_token_that_hf_stored_is_found(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("HF_ENDPOINT", server.base)
    server.serve("/org/repo/resolve/main/m.bin", DATA, wants={"authorization": f"Bearer {TOKEN}"})
    fetch("hf://org/repo/m.bin")


def test_the_sum_that_hugging_face_publishes_is_held_against_the_bytes(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.base)
    server.serve("/cdn", DATA)
    path = "/org/repo/resolve/main/m.bin"
    server.serve(path, redirect="/cdn", headers={"X-Linked-Etag": f'"{sum_of(b"other")}"'})
    assert "published is" in fetch.refused("hf://org/repo/m.bin")
    server.serve(path, redirect="/cdn", headers={"X-Linked-Etag": f'"{sum_of(DATA)}"'})
    fetch("hf://org/repo/m.bin")


def test_civitai_with_a_token_and_a_page_without(
    fetch: Fetching, server: ModelServer, other: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIVITAI_ENDPOINT", server.base)
    server.serve("/api/download/models/7", b"<html>log in</html>", content_type="text/html")
    assert "set CIVITAI_TOKEN" in fetch.refused("civitai://7")
    monkeypatch.setenv("CIVITAI_TOKEN", TOKEN)
    server.serve(
        "/api/download/models/7", redirect=f"{other.base}/r2?sig=1", wants={"authorization": f"Bearer {TOKEN}"}
    )
    other.serve("/r2", DATA)
    fetch("civitai://7")
    assert TOKEN not in repr(other.seen)


def test_netrc_is_for_its_host(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password letmein99\nmachine example.org login you password x\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    basic = base64.b64encode(b"me:letmein99").decode()
    fetch(server.serve("/m", DATA, wants={"authorization": f"Basic {basic}"}))


def test_a_failure_does_not_show_a_token(fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", server.base)
    server.serve("/org/repo/resolve/main/m.bin", redirect=f"http://127.0.0.1:1/{TOKEN}?sig={TOKEN}")
    fetch.policy = type(fetch.policy)(attempts=1)
    assert TOKEN not in fetch.refused("hf://org/repo/m.bin")


# -- Google Cloud Storage: a stand-in that speaks the JSON API's way of downloading ----------------

OBJECT = "/download/storage/v1/b/bucket/o/dir%2Fm.bin"


def test_gcs_on_an_emulator_needs_no_credentials(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.base)
    server.serve(OBJECT, DATA)
    fetch("gs://bucket/dir/m.bin")
    assert server.seen[0].path == f"{OBJECT}?alt=media"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", str(path)], check=True, capture_output=True)
    return path


def test_a_signature_is_the_one_that_openssl_makes(key: Path, tmp_path: Path) -> None:
    message = tmp_path / "message"
    message.write_bytes(b"a claim")
    theirs = subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(key), str(message)], capture_output=True).stdout
    assert gcs.rs256(b"a claim", key.read_text()) == theirs


def test_a_service_account_gets_a_token(
    fetch: Fetching, server: ModelServer, other: ModelServer, key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    account = {
        "type": "service_account",
        "client_email": "a@b",
        "private_key": key.read_text(),
        "token_uri": f"{other.base}/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.setattr(gcs, "endpoint", lambda: server.base)
    other.serve("/token", b'{"access_token": "ya29.secret-token", "expires_in": 3600}')
    server.serve(OBJECT, DATA, wants={"authorization": "Bearer ya29.secret-token"})
    fetch("gs://bucket/dir/m.bin")
    assert len(other.seen) == 1


@pytest.mark.parametrize("content", ["", "{}", '{"type":"external_account"}', '{"type":"service_account"}', "[1]"])
def test_credentials_that_cannot_be_used_are_said(
    fetch: Fetching, content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "account.json").write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    with refused(Code.BAD_SOURCE):
        fetch("gs://bucket/dir/m.bin")


def test_a_machine_of_google_has_a_token_of_its_own(
    fetch: Fetching, server: ModelServer, other: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "endpoint", lambda: server.base)
    monkeypatch.setenv("GCE_METADATA_HOST", other.base.removeprefix("http://"))
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    other.serve(path, b'{"access_token": "machine-token"}', wants={"metadata-flavor": "Google"})
    server.serve(OBJECT, DATA, wants={"authorization": "Bearer machine-token"})
    fetch("gs://bucket/dir/m.bin")
    fetch.has(DATA)


# -- S3 -------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_amazons_own_example() -> None:
    """ "Example: GET Bucket Lifecycle" of "Authenticating Requests: Using the Authorization Header" (S3 API)."""
    keys = s3.Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    moment = 1369353600.0  # 2013-05-24T00:00:00Z
    headers = s3.signed("https://examplebucket.s3.amazonaws.com/?lifecycle=", keys, "us-east-1", moment)
    assert headers["Authorization"].endswith(
        "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )


def s3_keys(monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.base)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecretkey")


def test_s3_signs_every_request_and_sends_no_key(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_keys(monkeypatch, server)
    server.serve("/bucket/dir/m%20x.bin", DATA)
    fetch("s3://bucket/dir/m x.bin")
    fetch.has(DATA)
    for one in server.seen:
        assert one.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert "verysecretkey" not in repr(server.seen)


def test_s3_goes_to_the_region_that_it_is_sent_to(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_keys(monkeypatch, server)

    def region(file: Any, seen: Seen) -> None:
        file.refuse = [] if "/eu-west-3/s3/" in seen.headers["authorization"] else [301]

    server.serve("/bucket/m.bin", DATA, on_request=region)
    monkeypatch.setattr("tests.kit.model_server._Handler._plain", _with_region)
    fetch("s3://bucket/m.bin")
    fetch.has(DATA)


def _with_region(handler: Any, status: int, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in {**(headers or {}), "x-amz-bucket-region": "eu-west-3", "Content-Length": "0"}.items():
        handler.send_header(name, value)
    handler.end_headers()


def test_s3_without_keys_asks_openly(fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.base + "/")
    server.serve("/bucket/m.bin", DATA)
    fetch("s3://bucket/m.bin")
    assert "authorization" not in server.seen[0].headers


def test_s3_reads_the_shared_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "user" / ".aws").mkdir(parents=True)
    (tmp_path / "user" / ".aws" / "credentials").write_text("[work]\naws_access_key_id=A\naws_secret_access_key=B\n")
    (tmp_path / "user" / ".aws" / "config").write_text("[profile work]\nregion=eu-central-1\n")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert s3.read_keys() == s3.Keys("A", "B", "", "eu-central-1")
    monkeypatch.setenv("AWS_PROFILE", "home")
    with pytest.raises(GovError):
        s3.read_keys()


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("bucket/a b", "https://bucket.s3.eu-west-1.amazonaws.com/a%20b"),
        ("my.bucket/a+b", "https://s3.eu-west-1.amazonaws.com/my.bucket/a%2Bb"),
    ],
)
def test_amazons_own_addresses(location: str, url: str) -> None:
    assert s3.object_url(location, "eu-west-1") == url


@pytest.mark.parametrize("value", ["not a url", "::::", "ftp://h", "http://", "http://h:99999", "http://[::1"])
@pytest.mark.parametrize("name", ["HF_ENDPOINT", "CIVITAI_ENDPOINT", "STORAGE_EMULATOR_HOST", "AWS_ENDPOINT_URL"])
def test_an_endpoint_that_is_no_address_is_said(
    fetch: Fetching, name: str, value: str, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setenv(name, value)
    source = {"H": "hf://o/r/x.pt", "C": "civitai://1", "S": "gs://bucket/x.pt", "A": "s3://bucket/x.pt"}[name[0]]
    with refused(Code.BAD_CONFIG) as caught:
        fetch(source)
    assert name in caught.value.message


@pytest.mark.parametrize("broken", [f"{TOKEN}\nX-Other: 1", f"{TOKEN}\u2026"])
def test_a_token_that_cannot_be_sent_is_not_shown(
    fetch: Fetching, server: ModelServer, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.base)
    monkeypatch.setenv("HF_TOKEN", broken)
    said = fetch.refused("hf://org/repo/m.bin")
    assert "cannot be sent" in said
    assert TOKEN not in said
    assert server.seen == []


def test_a_dead_proxy_is_named_without_its_password(fetch: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch.policy = type(fetch.policy)(attempts=1)
    monkeypatch.setenv("http_proxy", "http://me:secret-of-proxy@127.0.0.1:1")
    said = fetch.refused("http://example.org/m.bin")
    assert "the proxy 127.0.0.1:1 does not answer" in said
    assert "secret-of-proxy" not in said


# -- proxies --------------------------------------------------------------------------------------


def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("no_proxy", "internal.example, .corp")
    assert proxy_for("https://example.org/x") == "http://proxy:3128"
    assert proxy_for("http://example.org/x") == ""
    assert proxy_for("https://a.internal.example/x") == ""
    assert proxy_for("https://git.corp/x") == ""
    assert proxy_for("https://127.0.0.1/x") == ""


def test_the_claim_names_its_audience(key: Path) -> None:
    account = {"client_email": "a@b", "private_key": key.read_text(), "private_key_id": "k1"}
    head, body, _ = gcs._signed_claim(account, "https://t").split(".")
    decode = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, body)]
    assert (decode[0]["kid"], decode[1]["aud"], decode[1]["iss"]) == ("k1", "https://t", "a@b")
