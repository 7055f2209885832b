"""The bytes of a lock, its digest, and reading one that somebody else may have written."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.version import VERSION_SCHEMA, VersionLock

if TYPE_CHECKING:
    from pathlib import Path

_MOST_WORDS = 400
MAX_LOCK_BYTES = 256_000_000
NAME_RULE = "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 64"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def file_name(version_name: str) -> str:
    return f"comfy-{version_name}.lock.json"


def refuse_bad_name(name: str) -> None:
    if not _NAME.fullmatch(name) or ".." in name:
        raise GovError(Code.BAD_ID, f"`{name[:100]}` cannot be the name of a version: {NAME_RULE}", "give another")


def encode(lock: VersionLock, *, pretty: bool = True) -> bytes:
    """Same lock, same bytes."""
    data = msgspec.json.encode(lock, order="sorted")
    return (msgspec.json.format(data, indent=2) if pretty else data) + b"\n"


def digest_of(lock: VersionLock) -> str:
    """`sha256:…` of what the version is, without its name and where it was made (see VersionLock)."""
    document: dict[str, Any] = msgspec.to_builtins(lock)
    for name in ("version_name", "digest", "expects"):
        document.pop(name, None)
    for name in ("version", "platform", "torch_backend"):
        document["python"].pop(name, None)
    for holder in (document["comfyui"], *document.get("custom_nodes", ())):
        for file in (*holder.get("patch", ()), *holder.get("content", ())):
            file.pop("content", None)
            file.pop("encoding", None)
    return "sha256:" + hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def sealed(lock: VersionLock) -> VersionLock:
    """The lock with its digest in it."""
    return msgspec.structs.replace(lock, digest=digest_of(lock))


def read(path: Path) -> VersionLock:
    """The lock in `path`, whole and as it was made. Raises `not_found`, `home_newer`, `bad_config`.

    What its words mean is judged by `judging.judge`.
    """
    try:
        if path.stat().st_size > MAX_LOCK_BYTES:
            raise _bad(path, f"it is larger than {MAX_LOCK_BYTES} bytes")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise GovError(Code.NOT_FOUND, f"there is no lock {path}", "gov version list") from error
    lock = _decode(path, data)
    wanted = digest_of(lock)
    if lock.digest != wanted:
        raise _bad(path, f"its digest is {lock.digest[:80]}, its content has {wanted}: it was edited or damaged")
    return lock


def _decode(path: Path, data: bytes) -> VersionLock:
    try:
        version = msgspec.json.decode(data, type=_Schema).schema_version
        if version > VERSION_SCHEMA:
            raise GovError(
                Code.HOME_NEWER,
                f"{path} was written by a newer comfygov (format {version}, this one knows {VERSION_SCHEMA})",
                "update comfygov, then run the command again",
            )
        return msgspec.json.decode(data, type=VersionLock)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, f"it cannot be read: {_shortened(str(error))}") from error


def _shortened(words: str) -> str:
    """An error that quotes what it does not know quotes all of it; the place stands at its end."""
    return words if len(words) <= _MOST_WORDS else f"{words[: _MOST_WORDS // 2]}…{words[-_MOST_WORDS // 2 :]}"


class _Schema(msgspec.Struct):
    schema_version: int


def _bad(path: Path, reason: str) -> GovError:
    return GovError(Code.BAD_CONFIG, f"{path} is no lock that can be used: {reason}", "take it again from its source")


def schema() -> bytes:
    """The JSON Schema (2020-12) of a lock."""
    document = msgspec.json.schema(VersionLock)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "comfygov version lock", **document}
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"
