"""A stand-in for S3 that checks signatures: version 4, in headers and in addresses (presigned), written from Amazon's
documents ("Authenticating Requests (AWS Signature Version 4)") and not from comfygov's signing code.

It knows PUT, GET (with ranges), HEAD and DELETE of objects, `If-None-Match: *`, multipart uploads, and the making of
buckets. It lists nothing and does not know chunked signatures (`STREAMING-…`). Real servers are stricter; the long run
asks SeaweedFS too (tests/kit/emulators.py).
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_CLOCK_SECONDS = 900
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([\w-]+)/s3/aws4_request, ?"
    r"SignedHeaders=([\w;-]+), ?Signature=([0-9a-f]{64})"
)


class Refused(Exception):
    """An error answer of S3: status, and the code of its XML."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass
class Stored:
    data: bytes
    headers: dict[str, str]

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


@dataclass
class S3StandIn:
    """`buckets` maps a bucket's name to its objects by key: tests may look into it and change it. `base` is the
    endpoint (AWS_ENDPOINT_URL_S3), with the bucket as the first part of the path."""

    base: str = ""
    identifier: str = "standin-identifier"
    secret: str = "standin/secret+key"
    region: str = "us-east-1"
    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        """What a client of it finds in its environment."""
        return {
            "AWS_ENDPOINT_URL_S3": self.base,
            "AWS_ACCESS_KEY_ID": self.identifier,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
        }

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Store without a request; the source that names it."""
        self.buckets.setdefault(bucket, {})[key] = Stored(data, {})
        return f"s3://{bucket}/{key}"


@dataclass(frozen=True)
class Asked:
    """One request: `path` is decoded, `query` holds decoded pairs, header names are in small letters."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes

    def field(self, name: str) -> str | None:
        return dict(self.query).get(name)


# -- signatures -----------------------------------------------------------------------------------


def check(server: S3StandIn, asked: Asked) -> None:
    """Raises Refused unless the request is signed, by the right key, for the right region, now."""
    if asked.field("X-Amz-Signature") is not None:
        _check_presigned(server, asked)
        return
    given = _AUTHORIZATION.fullmatch(asked.headers.get("authorization", ""))
    if given is None:
        raise Refused(403, "AccessDenied")
    said = asked.headers.get("x-amz-content-sha256", "")
    if said.startswith("STREAMING"):
        raise Refused(501, "NotImplemented")
    if said not in ("UNSIGNED-PAYLOAD", hashlib.sha256(asked.body).hexdigest()):
        raise Refused(400, "XAmzContentSHA256Mismatch")
    moment = asked.headers.get("x-amz-date", "")
    if abs(_seconds(moment) - time.time()) > _CLOCK_SECONDS:
        raise Refused(403, "RequestTimeTooSkewed")
    identifier, day, region, names, signature = given.groups()
    _check_signature(server, asked, (identifier, day, region, names, moment, said, signature))


def _check_presigned(server: S3StandIn, asked: Asked) -> None:
    fields = dict(asked.query)
    identifier, day, region, *rest = fields.get("X-Amz-Credential", "").split("/")
    moment = fields.get("X-Amz-Date", "")
    if rest != ["s3", "aws4_request"] or fields.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256":
        raise Refused(400, "AuthorizationQueryParametersError")
    if time.time() > _seconds(moment) + int(fields.get("X-Amz-Expires", "0")):
        raise Refused(403, "AccessDenied")
    names = fields.get("X-Amz-SignedHeaders", "")
    given = (identifier, day, region, names, moment, "UNSIGNED-PAYLOAD", fields["X-Amz-Signature"])
    _check_signature(server, asked, given)


def _seconds(moment: str) -> float:
    try:
        return calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))
    except ValueError as error:
        raise Refused(403, "AccessDenied") from error


def _check_signature(server: S3StandIn, asked: Asked, given: tuple[str, str, str, str, str, str, str]) -> None:
    identifier, day, region, names, moment, payload, signature = given
    if identifier != server.identifier:
        raise Refused(403, "InvalidAccessKeyId")
    if region != server.region:
        raise Refused(400, "AuthorizationHeaderMalformed")
    if "host" not in names.split(";") or not moment.startswith(day):
        raise Refused(403, "SignatureDoesNotMatch")
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(_canonical(asked, names, payload)).hexdigest()}"
    key = f"AWS4{server.secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature):
        raise Refused(403, "SignatureDoesNotMatch")


def _canonical(asked: Asked, names: str, payload: str) -> bytes:
    pairs = sorted((_escaped(n), _escaped(v)) for n, v in asked.query if n != "X-Amz-Signature")
    lines = [asked.method, quote(asked.path, safe="/-_.~"), "&".join(f"{n}={v}" for n, v in pairs)]
    lines += [f"{name}:{' '.join(asked.headers.get(name, '').split())}" for name in names.split(";")]
    return "\n".join([*lines, "", names, payload]).encode()


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")


# -- what it does -------------------------------------------------------------------------------

Reply = tuple[int, dict[str, str], bytes]


def answer(server: S3StandIn, asked: Asked) -> Reply:
    bucket, _, key = asked.path.lstrip("/").partition("/")
    if not key:
        return _of_bucket(server, asked, bucket)
    if bucket not in server.buckets:
        raise Refused(404, "NoSuchBucket")
    if asked.field("uploads") is not None or asked.field("uploadId") is not None:
        return _of_upload(server, asked, bucket, key)
    objects = server.buckets[bucket]
    if asked.method == "PUT":
        if asked.headers.get("if-none-match") == "*" and key in objects:
            raise Refused(412, "PreconditionFailed")
        kept = {n: v for n, v in asked.headers.items() if n == "content-type" or n.startswith("x-amz-meta-")}
        objects[key] = Stored(asked.body, kept)
        return 200, {"ETag": objects[key].etag}, b""
    if asked.method == "DELETE":
        objects.pop(key, None)
        return 204, {}, b""
    if key not in objects:
        raise Refused(404, "NoSuchKey")
    return _read(objects[key], asked)


def _of_bucket(server: S3StandIn, asked: Asked, bucket: str) -> Reply:
    if asked.method == "PUT":
        server.buckets.setdefault(bucket, {})
        return 200, {}, b""
    if bucket not in server.buckets:
        raise Refused(404, "NoSuchBucket")
    raise Refused(501, "NotImplemented")


def _of_upload(server: S3StandIn, asked: Asked, bucket: str, key: str) -> Reply:
    number, upload = asked.field("partNumber"), asked.field("uploadId") or ""
    if asked.field("uploads") is not None:
        upload = f"upload-{len(server.uploads)}"
        server.uploads[upload] = {}
        body = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
        return 200, {}, f"<InitiateMultipartUploadResult>{body}</InitiateMultipartUploadResult>".encode()
    if upload not in server.uploads:
        raise Refused(404, "NoSuchUpload")
    if asked.method == "PUT" and number is not None:
        server.uploads[upload][int(number)] = asked.body
        return 200, {"ETag": Stored(asked.body, {}).etag}, b""
    parts = server.uploads.pop(upload)
    if asked.method == "DELETE":
        return 204, {}, b""
    stored = Stored(b"".join(parts[number] for number in sorted(parts)), {})
    server.buckets[bucket][key] = stored
    body = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>{escape(stored.etag)}</ETag>"
    return 200, {}, f"<CompleteMultipartUploadResult>{body}</CompleteMultipartUploadResult>".encode()


def _read(stored: Stored, asked: Asked) -> Reply:
    headers = {"ETag": stored.etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Accept-Ranges": "bytes"}
    headers.update(stored.headers)
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
    if wanted is None or asked.headers.get("if-range", stored.etag) != stored.etag:
        return 200, headers, stored.data
    start = int(wanted[1])
    if start >= len(stored.data):
        raise Refused(416, "InvalidRange")
    data = stored.data[start : int(wanted[2]) + 1 if wanted[2] else None]
    headers["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{len(stored.data)}"
    return 206, headers, data


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: S3StandIn

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its own name)
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or "0"))
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, unquote(parts.path), query, headers, body)
        try:
            check(self.s3, asked)
            status, more, data = answer(self.s3, asked)
        except Refused as refused:
            status, data = refused.status, f"<Error><Code>{refused.code}</Code></Error>".encode()
            more = {"x-amz-bucket-region": self.s3.region}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 (names of http.server)


@contextmanager
def s3_standin() -> Iterator[S3StandIn]:
    made = S3StandIn()
    handler = type("Handler", (_Handler,), {"s3": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    made.base = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
