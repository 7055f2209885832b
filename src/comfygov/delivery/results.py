"""From files and values to what a client gets: inline, or put where the job or the worker wants it."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from comfygov.delivery import outputs, sinks
from comfygov.delivery.failure import JobFailed, from_gov_error
from comfygov.delivery.outputs import FileOutput, ValueOutput
from comfygov.errors import GovError
from comfygov.model.delivery import Artifact, OutputMode, Uploaded
from comfygov.ports.secrets import hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.delivery.deadline import Deadline
    from comfygov.delivery.job import Job
    from comfygov.model.handler import Storage

_FIELD = re.compile(r"\{([a-z_]*)\}")
_FIELDS = frozenset({"job_id", "node_id", "filename", "stem", "ext", "subfolder", "kind", "date"})
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+@ -]+")
_MAX_KEY_BYTES = 900
_ABOUT_BYTES = 1000
"""What stands around the artifacts: timing, version, and what a scheduler adds."""
Found = FileOutput | ValueOutput


def refuse_bad_template(template: str) -> None:
    """Raises ValueError that names the field that there is not."""
    unknown = [name for name in _FIELD.findall(template) if name not in _FIELDS]
    if unknown or not template.strip("/"):
        raise ValueError(f"`{{{unknown[0] if unknown else ''}}}` is no field; there are {', '.join(sorted(_FIELDS))}")


@dataclass
class Delivery:
    """Delivers the results of one job."""

    job: Job
    storage: Storage
    deadline: Deadline
    _keys: set[str] = field(default_factory=set)
    _sinks: dict[OutputMode, sinks.OutputSink] = field(default_factory=dict)

    def prepare(self) -> None:
        """Before the workflow runs: raises JobFailed when there is nowhere to put its results."""
        if self.mode != "base64":
            self._sink(self.mode)

    def _sink(self, mode: OutputMode) -> sinks.OutputSink:
        if mode not in self._sinks:
            try:
                self._sinks[mode] = sinks.make(mode, self.storage, self.job.bucket)
            except GovError as error:
                raise from_gov_error(error) from error
        return self._sinks[mode]

    @property
    def mode(self) -> OutputMode:
        return self.job.output or sinks.default_output(self.storage)

    def deliver(self, found: Sequence[Found]) -> tuple[Artifact, ...]:
        """Raises JobFailed `too_large` or `output_failed`; the files are where they were then."""
        if self.mode == "base64":
            return self._inline(found)
        return self._stored(found, self.mode)

    def _inline(self, found: Sequence[Found]) -> tuple[Artifact, ...]:
        limit = self.storage.inline_limit_bytes
        if limit is None:
            return tuple(_inlined(one) for one in found)
        size = sum(_inline_size(one) for one in found)
        if size <= limit:  # else nothing of it has to be read
            artifacts = tuple(_inlined(one) for one in found)
            size = _ABOUT_BYTES + sum(_sent_size(one) for one in artifacts)
            if size <= limit:
                return artifacts
        bucket = sinks.configured(self.storage)
        if bucket is None or self.job.output == "base64":
            raise _too_large(found, size, limit)
        return self._stored(found, bucket)

    def _stored(self, found: Sequence[Found], mode: OutputMode) -> tuple[Artifact, ...]:
        limit = self.storage.inline_limit_bytes
        size = sum(_inline_size(one) for one in found if isinstance(one, ValueOutput))
        if limit is not None and size > limit:
            raise _too_large([one for one in found if isinstance(one, ValueOutput)], size, limit)
        sink = self._sink(mode)
        return tuple(self._put(one, sink) if isinstance(one, FileOutput) else _valued(one) for one in found)

    def _put(self, one: FileOutput, sink: sinks.OutputSink) -> Artifact:
        self.deadline.check("results were being stored")
        key = self.key_of(one)
        try:
            done = sink.put(one.path, key, one.media_type)
        except GovError as error:
            raise from_gov_error(error, retryable=True) from error
        except Exception as error:  # each library has errors of its own
            message = f"{one.filename} could not be stored ({sink.kind}, {key}): {hidden(str(error))[:1000]}"
            hint = "check the bucket, the credentials, and that they may write there"
            raise JobFailed("output_failed", message, hint, retryable=True) from error
        return _described(one, sinks.TYPE_OF[sink.kind], done.url or done.uri, done)

    def key_of(self, one: FileOutput) -> str:
        """The object's name; two files of one job never get the same."""
        values = {
            "job_id": self.job.id,
            "node_id": one.node_id or "file",
            "filename": one.filename,
            "stem": one.path.stem,
            "ext": one.path.suffix,
            "subfolder": one.subfolder,
            "kind": one.kind,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        filled = _FIELD.sub(lambda match: values[match[1]].replace("/", "_"), self.storage.object_name)
        prefix = (self.job.prefix or self.storage.prefix).strip("/")
        key = _safe(f"{prefix}/{filled}" if prefix else filled)
        stem, dot, suffix = key.rpartition(".")
        number = 1
        while key in self._keys:
            number += 1
            key = f"{stem}-{number}{dot}{suffix}" if dot and "/" not in suffix else f"{stem}{dot}{suffix}-{number}"
        self._keys.add(key)
        return key


def _safe(key: str) -> str:
    """A path of plain parts: nothing that leads upwards, no empty part, nothing that has to be quoted."""
    parts = [_UNSAFE.sub("_", part) for part in key.split("/")]
    return "/".join(part for part in parts if part.strip(". "))[-_MAX_KEY_BYTES:].lstrip("/") or "file"


def _inline_size(one: Found) -> int:
    if isinstance(one, ValueOutput):
        return len(msgspec.json.encode(one.value))
    return (one.path.stat().st_size + 2) // 3 * 4


def _sent_size(one: Artifact) -> int:
    """Bytes as the standard library writes JSON, which RunPod's SDK does: longer than ours, by escapes and spaces."""
    plain = len(one.data) if one.type == "base64" else 0
    rest = msgspec.structs.replace(one, data="") if plain else one
    return plain + len(json.dumps(msgspec.to_builtins(rest))) + 2


def _inlined(one: Found) -> Artifact:
    if isinstance(one, ValueOutput):
        return _valued(one)
    checksum, size = outputs.sum_and_size(one.path)
    return _described(one, "base64", base64.b64encode(one.path.read_bytes()).decode(), Uploaded("", "", size, checksum))


def _valued(one: ValueOutput) -> Artifact:
    import hashlib

    data = outputs.value_bytes(one.value)
    return Artifact(
        filename="",
        type="text" if one.is_text else "json",
        data=one.value,
        node_id=one.node_id,
        kind=one.kind,
        media_type="text/plain" if one.is_text else "application/json",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _described(one: FileOutput, how: str, data: str, done: Uploaded) -> Artifact:
    return Artifact(
        filename=one.filename,
        type=how,  # type: ignore[arg-type] # TYPE_OF and base64
        data=data,
        node_id=one.node_id,
        kind=one.kind,
        media_type=one.media_type,
        size=done.size,
        sha256=done.sha256,
        subfolder=one.subfolder,
        uri=done.uri,
        preview=one.preview,
    )


def _too_large(found: Sequence[Found], size: int, limit: int) -> JobFailed:
    lines = [
        f"a value of node {one.node_id}: {_inline_size(one):,} bytes" for one in found if isinstance(one, ValueOutput)
    ]
    message = f"the results need {size:,} bytes inline, and {limit:,} can be returned"
    hint = "have them stored: set GCS_BUCKET, S3_BUCKET or AZURE_CONTAINER for the worker, or send `output_mode`"
    return JobFailed("too_large", message, hint, details=lines[:50])
