"""What a worker does unless a job says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field

from comfygov.model.delivery import OutputMode

MEGABYTE = 1_000_000
RUNPOD_RESULT_BYTES = 10 * MEGABYTE
"""What RunPod takes as the result of `/run` (its documentation; `/runsync` takes 20 MB)."""
URL_SECONDS = 7 * 24 * 3600
"""As long as the signed addresses of RunPod's own worker live; also the longest that S3 and GCS sign."""


@dataclass(frozen=True)
class Storage:
    """Where results go. `object_name` is a template (docs/handler.md); `url_seconds` None: no signed addresses, but
    where the service has no others."""

    output: OutputMode | None = None
    bucket: str = ""
    prefix: str = ""
    object_name: str = "{job_id}/{filename}"
    url_seconds: int | None = None
    folder: str = ""
    inline_limit_bytes: int | None = None


@dataclass(frozen=True)
class Settings:
    """Bounds of one worker; times in seconds, sizes in bytes."""

    storage: Storage = field(default_factory=Storage)
    job_seconds: float = 3600.0
    start_seconds: float = 900.0
    interrupt_seconds: float = 15.0
    max_input_bytes: int = 1_000 * MEGABYTE
    max_all_inputs_bytes: int = 4_000 * MEGABYTE
    allow_private_urls: bool = False
    refresh_worker: bool = False
