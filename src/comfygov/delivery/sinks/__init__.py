"""Where files of results go: a folder, or a bucket of Google, Amazon (and all that speak S3) or Azure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from comfygov.errors import Code, GovError
from comfygov.model.delivery import DataType, OutputMode, Uploaded

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.handler import Storage

TYPE_OF: dict[OutputMode, DataType] = {
    "base64": "base64",
    "file": "file",
    "gcs": "gcs_url",
    "s3": "s3_url",
    "azure": "azure_url",
}


class OutputSink(Protocol):
    """Takes files one by one, from several threads. Raises GovError, or what its library raises."""

    kind: OutputMode

    def put(self, path: Path, key: str, media_type: str) -> Uploaded:
        """Store the file under `key`, which names no other; the same again replaces it."""
        ...


def configured(storage: Storage) -> OutputMode | None:
    """The bucket that settings and environment name: the output that was asked for, else GCS, S3, Azure."""
    if storage.output not in (None, "base64", "file"):
        return storage.output
    if os.environ.get("GCS_BUCKET"):
        return "gcs"
    if os.environ.get("S3_BUCKET") or os.environ.get("BUCKET_ENDPOINT_URL"):
        return "s3"
    return "azure" if os.environ.get("AZURE_CONTAINER") else None


def default_output(storage: Storage) -> OutputMode:
    """What a job without `output_mode` gets."""
    return storage.output or configured(storage) or "base64"


def make(mode: OutputMode, storage: Storage, bucket: str = "") -> OutputSink:
    """Raises GovError `usage` where a bucket is not named, `tool_missing` where the library is not installed."""
    if mode == "file":
        from comfygov.delivery.sinks.folder import FolderSink

        return FolderSink(storage.folder)
    if mode == "gcs":
        from comfygov.delivery.sinks.gcs import GcsSink

        return GcsSink(bucket or storage.bucket or _named("gcs", "GCS_BUCKET"), storage.url_seconds)
    from comfygov.delivery.sinks import objects

    if mode == "s3":
        return objects.s3(bucket or storage.bucket, storage.url_seconds)
    if mode == "azure":
        return objects.azure(bucket or storage.bucket or _named("azure", "AZURE_CONTAINER"), storage.url_seconds)
    raise GovError(Code.USAGE, "base64 needs no bucket")


def _named(mode: OutputMode, variable: str) -> str:
    name = os.environ.get(variable, "").removeprefix("gs://").rstrip("/")
    if not name:
        raise GovError(Code.USAGE, f"no bucket is named for the output `{mode}`", f"--bucket NAME, or set {variable}")
    return name


def missing(package: str, extra: str, error: ImportError) -> GovError:
    hint = f"pip install 'comfygov[{extra}]'"
    return GovError(Code.TOOL_MISSING, f"the output needs the package {package}, which does not import: {error}", hint)
