"""Objects of Google Cloud Storage by its JSON API, and the tokens of Application Default Credentials.

A service account proves itself with a signed claim (RFC 7523, RS256 of RFC 7518); signing is one modular power, so
that google-auth and its 11 packages are not needed. Endpoint: STORAGE_EMULATOR_HOST, as Google's own clients have it.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ports import clock, http

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 (an address)
_CLAIM_SECONDS = 3600
_RENEW_BEFORE_SECONDS = 300
_SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo of SHA-256 (RFC 8017, section 9.2, note 1)."""


def endpoint() -> str:
    return http.endpoint(("STORAGE_EMULATOR_HOST",), "https://storage.googleapis.com", "http")


def object_url(location: str) -> str:
    bucket, _, name = location.partition("/")
    return f"{endpoint()}/download/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"


@dataclass
class Tokens:
    """One access token, made when it is needed and again before it ends. "" where there are no credentials."""

    client: http.Http
    _token: str = ""
    _ends: float = 0.0
    _machine: bool = False

    def token(self) -> str:
        """Raises GovError for credentials that cannot be read, HttpFailure when the token service does not give one."""
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            return ""
        given = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN") or os.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN")
        if given:
            return given.strip()
        if clock.wall_seconds() > self._ends - _RENEW_BEFORE_SECONDS:
            self._renew()
        return self._token

    def _renew(self) -> None:
        path = _credentials_file()
        if self._machine:
            self._from_machine()
        elif path is not None:
            self._take(self.client.post(*_token_request(path)))

    def ask_the_machine(self) -> bool:
        """Ask the metadata server of Google's machines for a token; False where there is none or was asked before."""
        if self._machine or self._token or os.environ.get("STORAGE_EMULATOR_HOST"):
            return False
        self._machine = True
        return self._from_machine()

    def _from_machine(self) -> bool:
        host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        near = http.Http(http.Limits(connect_seconds=2.0, silence_seconds=5.0), 1)
        try:
            self._take(near.get(http.Request(url, {"Metadata-Flavor": "Google"})).read_all(100_000))
        except http.HttpFailure:
            return False
        return True

    def _take(self, body: bytes) -> None:
        try:
            answer = msgspec.json.decode(body, type=dict[str, Any])
            self._token = str(answer["access_token"])
            self._ends = clock.wall_seconds() + float(answer.get("expires_in", _CLAIM_SECONDS))
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise http.HttpFailure("Google's token service gave no token", transient=False) from error


def _credentials_file() -> Path | None:
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return Path(named).expanduser()
    folder = os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud"
    path = Path(folder).expanduser() / "application_default_credentials.json"
    return path if path.is_file() else None


def _token_request(path: Path) -> tuple[str, dict[str, str]]:
    """Where to ask for a token, and with what."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        kind = stored.get("type")
        if kind == "service_account":
            url = str(stored.get("token_uri") or _TOKEN_URL)
            claim = _signed_claim(stored, url)
            return url, {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": claim}
        if kind == "authorized_user":
            fields = {name: str(stored[name]) for name in ("client_id", "client_secret", "refresh_token")}
            return _TOKEN_URL, {"grant_type": "refresh_token", **fields}
    except (OSError, msgspec.MsgspecError, KeyError, ValueError, IndexError) as error:
        raise GovError(
            Code.BAD_SOURCE,
            f"the Google credentials {path} cannot be read",
            "name a service account's file in GOOGLE_APPLICATION_CREDENTIALS, or unset it for public buckets",
        ) from error
    raise GovError(
        Code.BAD_SOURCE,
        f"Google credentials of type `{kind}` ({path}) are not taken",
        "give a token: export GOOGLE_OAUTH_ACCESS_TOKEN=$(gcloud auth print-access-token)",
    )


def _signed_claim(account: dict[str, Any], audience: str) -> str:
    now = int(clock.wall_seconds())
    head = {"alg": "RS256", "typ": "JWT", **({"kid": account["private_key_id"]} if "private_key_id" in account else {})}
    body = {
        "iss": account["client_email"],
        "scope": _SCOPE,
        "aud": audience,
        "iat": now,
        "exp": now + _CLAIM_SECONDS,
    }
    text = f"{_base64(msgspec.json.encode(head))}.{_base64(msgspec.json.encode(body))}"
    return f"{text}.{_base64(rs256(text.encode(), str(account['private_key'])))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def rs256(message: bytes, pem: str) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2.1) by the PKCS #8 key in `pem`; ValueError for another key."""
    modulus, exponent = _rsa_key(pem)
    length = (modulus.bit_length() + 7) // 8
    info = _SHA256_PREFIX + hashlib.sha256(message).digest()
    padded = b"\x00\x01" + b"\xff" * (length - len(info) - 3) + b"\x00" + info
    return pow(int.from_bytes(padded, "big"), exponent, modulus).to_bytes(length, "big")


def _rsa_key(pem: str) -> tuple[int, int]:
    """Modulus and private exponent. PKCS #8: SEQUENCE of version, algorithm, OCTET STRING that holds the
    RSAPrivateKey, a SEQUENCE of version, n, e, d, … (RFC 5208, RFC 8017 A.1.2)."""
    if "BEGIN PRIVATE KEY" not in pem:
        raise ValueError("not a PKCS #8 key")
    body = pem.partition("-----BEGIN PRIVATE KEY-----")[2].partition("-----END")[0]
    outer = _parts(_parts(base64.b64decode("".join(body.split())))[0])
    numbers = _parts(_parts(outer[2])[0])
    return int.from_bytes(numbers[1], "big"), int.from_bytes(numbers[3], "big")


def _parts(der: bytes) -> list[bytes]:
    """Contents of the values that stand one after the other in `der`."""
    found, at = [], 0
    while at < len(der):
        length, at = der[at + 1], at + 2
        if length & 0x80:
            width = length & 0x7F
            length, at = int.from_bytes(der[at : at + width], "big"), at + width
        found.append(der[at : at + length])
        at += length
    return found
