"""Objects of S3 and of servers that speak its protocol: addresses, keys, and signature version 4.

The signature follows "Create a signed AWS API request" (AWS General Reference); for S3 the path is encoded once.
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from comfygov.errors import Code, GovError
from comfygov.ports import clock, http

_EMPTY_BODY = hashlib.sha256(b"").hexdigest()
_DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class Keys:
    """Empty `identifier`: requests are not signed, which is right for public buckets."""

    identifier: str = ""
    secret: str = ""
    session: str = ""
    region: str = ""


def read_keys() -> Keys:
    """From AWS_ACCESS_KEY_ID and its companions, else from the shared files that AWS_PROFILE names a part of."""
    get = os.environ.get
    region = get("AWS_REGION") or get("AWS_DEFAULT_REGION") or ""
    if get("AWS_ACCESS_KEY_ID") and get("AWS_SECRET_ACCESS_KEY"):
        return Keys(
            get("AWS_ACCESS_KEY_ID", ""), get("AWS_SECRET_ACCESS_KEY", ""), get("AWS_SESSION_TOKEN", ""), region
        )
    profile = get("AWS_PROFILE") or "default"
    stored = _section(get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", profile)
    shared = _section(
        get("AWS_CONFIG_FILE") or "~/.aws/config", profile if profile == "default" else f"profile {profile}"
    )
    found = {**shared, **stored}
    if get("AWS_PROFILE") and not found:
        raise GovError(Code.BAD_SOURCE, f"AWS_PROFILE is `{profile}`, which no file of yours describes", "unset it")
    return Keys(
        found.get("aws_access_key_id", ""),
        found.get("aws_secret_access_key", ""),
        found.get("aws_session_token", ""),
        region or found.get("region", ""),
    )


def _section(path: str, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(Path(path).expanduser(), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise GovError(Code.BAD_SOURCE, f"{path} cannot be read", "see what it holds") from error
    return dict(parser.items(name)) if parser.has_section(name) else {}


def region(keys: Keys) -> str:
    return keys.region or _DEFAULT_REGION


def request(location: str, keys: Keys, bucket_region: str) -> http.Request:
    """The request for `bucket/key`."""
    url = object_url(location, bucket_region)
    if not keys.identifier:
        return http.Request(url)
    return http.Request(url, sign=lambda address: signed(address, keys, bucket_region, clock.wall_seconds()))


def object_url(location: str, bucket_region: str) -> str:
    """At Amazon the bucket is part of the host, but where its dots would not fit the certificate; elsewhere
    (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) it is the first part of the path."""
    bucket, _, key = location.partition("/")
    path = quote(key, safe="/-_.~")
    amazon = f"https://s3.{bucket_region}.amazonaws.com"
    endpoint = http.endpoint(("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), amazon)
    if endpoint != amazon or "." in bucket:
        return f"{endpoint}/{bucket}/{path}"
    return f"https://{bucket}.s3.{bucket_region}.amazonaws.com/{path}"


def signed(url: str, keys: Keys, bucket_region: str, now_seconds: float) -> dict[str, str]:
    """The headers that sign a GET of `url`; a Range header may be added, it is not part of what is signed."""
    import time

    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_seconds))
    parts = urlsplit(url)
    headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY_BODY, "x-amz-date": moment}
    if keys.session:
        headers["x-amz-security-token"] = keys.session
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{parts.path}\n{parts.query}\n{lines}\n{names}\n{_EMPTY_BODY}"
    scope = f"{moment[:8]}/{bucket_region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = _mac(_signing_key(keys, scope), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").hex()
    del headers["host"]
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.identifier}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return headers


def _signing_key(keys: Keys, scope: str) -> bytes:
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
