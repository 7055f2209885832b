"""What a client may ask for: the input of RunPod's own ComfyUI worker, and more.

Contract of that worker: `{"workflow", "images": [{"name", "image"}], "comfy_org_api_key"}`, where `input` may also be
a string of JSON. Its documentation says `api_key_comfy_org`, its code `comfy_org_api_key`: both are taken.
"""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from comfygov.delivery.failure import JobFailed
from comfygov.model.delivery import OutputMode

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES = 256
MAX_NAME_LENGTH = 255
MAX_TIMEOUT_SECONDS = 7 * 24 * 3600.0
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}[a-z0-9]")
_HINT = "docs/handler.md lists what a job may hold"


@dataclass(frozen=True)
class InputFile:
    """A file that the workflow names as `name`; `source` is base64, a data URI or a URL."""

    name: str
    source: str


@dataclass(frozen=True)
class Job:
    """A judged job. `workflow` is None where it has to be fetched from `workflow_url`; what is None or "" is left
    to the worker's settings."""

    id: str
    workflow: dict[str, Any] | None
    workflow_url: str = ""
    files: tuple[InputFile, ...] = ()
    output: OutputMode | None = None
    bucket: str = ""
    prefix: str = ""
    timeout_seconds: float | None = None
    api_key: str = ""
    previews: bool = False
    refresh_worker: bool = False


def new_id() -> str:
    return secrets.token_hex(12)


def bad(message: str, hint: str = _HINT) -> JobFailed:
    return JobFailed("bad_job", message, hint)


def read(job_id: str, raw: object) -> Job:
    """The job that a client sent as `input`. Raises JobFailed `bad_job` with what is wrong, and where."""
    given = _object(raw)
    workflow = given.get("workflow", given.get("prompt"))
    if isinstance(workflow, str):
        workflow = _from_text(workflow, "`workflow`")
    url = _text(given, "workflow_url")
    if workflow is None and not url:
        raise bad("the job has no `workflow`")
    if workflow is not None and not isinstance(workflow, dict):
        raise bad(f"`workflow` is {_kind(workflow)}, not an object of nodes")
    output = _text(given, "output_mode") or None
    if output is not None and output not in get_args(OutputMode):
        raise bad(f"`output_mode` is `{output[:40]}`, not one of {', '.join(get_args(OutputMode))}")
    return Job(
        id=job_id,
        workflow=workflow,
        workflow_url=url,
        files=_files(given),
        output=output,  # type: ignore[arg-type] # judged above
        bucket=_bucket(given),
        prefix=_text(given, "gcs_prefix") or _text(given, "prefix"),
        timeout_seconds=_timeout(given),
        api_key=_text(given, "comfy_org_api_key") or _text(given, "api_key_comfy_org"),
        previews=_flag(given, "previews"),
        refresh_worker=_flag(given, "refresh_worker"),
    )


def wants_fresh(raw: object) -> bool:
    """Whether a job asks for a fresh worker; one that cannot be read does not."""
    try:
        return _flag(_object(raw), "refresh_worker")
    except JobFailed:
        return False


def _object(raw: object) -> dict[str, Any]:
    given = _from_text(raw, "`input`") if isinstance(raw, str) else raw
    if given is None:
        raise bad("the job has no `input`")
    if not isinstance(given, dict):
        raise bad(f"`input` is {_kind(given)}, not an object")
    return given


def _from_text(text: str, what: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise bad(f"{what} is a string that is no JSON: {error}") from error


def _kind(value: object) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise bad(f"`{name}` is {_kind(value)}, not a string")
    return value.strip()


def _flag(given: dict[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise bad(f"`{name}` is {_kind(value)}, not true or false")


def _bucket(given: dict[str, Any]) -> str:
    name = _text(given, "gcs_bucket") or _text(given, "bucket")
    name = name.removeprefix("gs://").removeprefix("s3://").rstrip("/")
    if name and not _BUCKET.fullmatch(name):
        raise bad(f"`{name[:80]}` cannot be the name of a bucket")
    return name


def _timeout(given: dict[str, Any]) -> float | None:
    value = given.get("timeout")
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 < value <= MAX_TIMEOUT_SECONDS:
        raise bad(f"`timeout` must be seconds, more than 0 and at most {MAX_TIMEOUT_SECONDS:.0f}")
    return float(value)


def _files(given: dict[str, Any]) -> tuple[InputFile, ...]:
    found: dict[str, InputFile] = {}
    for one in (*_listed(given, "images"), *_listed(given, "files"), *_mapped(given, "input_images")):
        known = found.setdefault(one.name, one)
        if known != one:
            raise bad(f"two different input files are named `{one.name}`")
    if len(found) > MAX_FILES:
        raise bad(f"the job has {len(found)} input files; at most {MAX_FILES} are taken")
    return tuple(found.values())


def _listed(given: dict[str, Any], field: str) -> Iterator[InputFile]:
    entries = given.get(field)
    if entries is None:
        return
    if not isinstance(entries, list):
        raise bad(f"`{field}` is {_kind(entries)}, not a list")
    for number, entry in enumerate(entries):
        where = f"{field}[{number}]"
        if not isinstance(entry, dict):
            raise bad(f"`{where}` is {_kind(entry)}, not an object with `name` and `image`")
        source = next((entry[key] for key in ("image", "file", "data", "url") if entry.get(key) is not None), None)
        yield _file(where, entry.get("name"), source)


def _mapped(given: dict[str, Any], field: str) -> Iterator[InputFile]:
    entries = given.get(field)
    if entries is None:
        return
    if not isinstance(entries, dict):
        raise bad(f"`{field}` is {_kind(entries)}, not an object of names and addresses")
    for name, source in entries.items():
        yield _file(f"{field}.{name}"[:80], name, source)


def _file(where: str, name: object, source: object) -> InputFile:
    if not isinstance(name, str) or not name.strip():
        raise bad(f"`{where}` has no `name`")
    if len(name) > MAX_NAME_LENGTH or "\0" in name:
        raise bad(f"the `name` of `{where}` is no name of a file")
    if not isinstance(source, str) or not source.strip():
        raise bad(f"`{where}` (`{name}`) has no content: give `image` as base64, a data URI or a URL")
    return InputFile(name, source.strip())
