"""S3 (and all that speak it) and Azure, by obstore: 20 ms to import, one package for both."""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from comfygov.delivery.outputs import sum_and_size
from comfygov.delivery.sinks import missing
from comfygov.errors import Code, GovError
from comfygov.model.delivery import OutputMode, Uploaded
from comfygov.model.handler import URL_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

_AMAZON = re.compile(r"(?P<bucket>.+?)\.s3[.-](?P<region>[a-z0-9-]+)\.amazonaws\.com")


class ObjectSink:
    """One bucket or container. Addresses are signed for `url_seconds`: private buckets have no others."""

    def __init__(self, kind: OutputMode, store: object, base: str, url_seconds: int | None) -> None:
        self.kind = kind
        self._store: Any = store
        self._base = base
        self._lifetime = dt.timedelta(seconds=url_seconds or URL_SECONDS)

    def put(self, path: Path, key: str, media_type: str) -> Uploaded:
        import obstore

        checksum, size = sum_and_size(path)
        obstore.put(self._store, key, path, attributes={"Content-Type": media_type})
        url = str(obstore.sign(self._store, "GET", key, self._lifetime))
        return Uploaded(f"{self._base}/{key}", url, size, checksum)


def _stores() -> Any:  # noqa: ANN401 (an optional module)
    if sys.version_info < (3, 11):
        message = "the outputs s3 and azure need Python 3.11 or later (obstore is not made for this one)"
        raise GovError(Code.TOOL_MISSING, message, "the outputs gcs, file and base64 work")
    try:
        from obstore import store
    except ImportError as error:
        raise missing("obstore", "s3", error) from error
    return store


def s3(bucket: str, url_seconds: int | None) -> ObjectSink:
    """By BUCKET_ENDPOINT_URL, BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY, as RunPod's own worker takes them,
    else by the AWS_* variables. Raises GovError `usage`, `tool_missing`."""
    stores = _stores()
    endpoint, named, region = _place(os.environ.get("BUCKET_ENDPOINT_URL", ""))
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    bucket = bucket or os.environ.get("S3_BUCKET", "") or named
    if not bucket:
        hint = "--bucket NAME, set S3_BUCKET, or put it into the path of BUCKET_ENDPOINT_URL"
        raise GovError(Code.USAGE, "no bucket is named for the output `s3`", hint)
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    given = {
        "endpoint": endpoint,
        "access_key_id": os.environ.get("BUCKET_ACCESS_KEY_ID", ""),
        "secret_access_key": os.environ.get("BUCKET_SECRET_ACCESS_KEY", ""),
    }
    options = {"allow_http": endpoint.startswith("http://")}
    config = {name: value for name, value in given.items() if value}
    store = stores.S3Store(bucket, region=region, virtual_hosted_style_request=False, client_options=options, **config)
    return ObjectSink("s3", store, f"s3://{bucket}", url_seconds)


def _place(url: str) -> tuple[str, str, str]:
    """Endpoint, bucket and region of an address that may name the bucket in its host (Amazon) or its path."""
    if not url:
        return "", "", ""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    amazon = _AMAZON.fullmatch(parts.hostname or "")
    if amazon:
        return "", amazon["bucket"], amazon["region"]
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/"), ""


def azure(container: str, url_seconds: int | None) -> ObjectSink:
    """By AZURE_STORAGE_CONNECTION_STRING, else by the AZURE_STORAGE_* variables that obstore reads itself."""
    stores = _stores()
    pairs = (part.partition("=") for part in os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"))
    said = {name: value for name, _, value in pairs if value}
    names = {"account_name": "AccountName", "account_key": "AccountKey", "sas_key": "SharedAccessSignature"}
    config = {ours: said[theirs] for ours, theirs in names.items() if theirs in said}
    endpoint = said.get("BlobEndpoint", "")
    if endpoint:
        config["endpoint"] = endpoint
    options = {"allow_http": endpoint.startswith("http://")}
    store = stores.AzureStore(container, client_options=options, **config)
    return ObjectSink("azure", store, f"az://{container}", url_seconds)
