"""JSON documents on disk: decoded strictly by type, written atomically and readably."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import SCHEMA_VERSION
from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")


class _Versioned(msgspec.Struct):
    schema_version: int = SCHEMA_VERSION


def encode(document: object) -> bytes:
    """Readable JSON that ends with a newline. Same document, same bytes."""
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=2) + b"\n"


def save(path: Path, document: object) -> None:
    with fs.explained(path):
        fs.write_atomic(path, encode(document))


def load(path: Path, kind: type[T]) -> T:
    """The document in `path`; raises `home_newer`, `home_damaged` or `not_found`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise GovError(Code.NOT_FOUND, f"{path} is not there", "gov status") from error
    return decode(path, data, kind)


def decode(path: Path, data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        _refuse_newer(path, data)
        raise GovError(Code.HOME_DAMAGED, f"{path} cannot be read: {error}", "gov verify") from error


def _refuse_newer(path: Path, data: bytes) -> None:
    try:
        version = msgspec.json.decode(data, type=_Versioned).schema_version
    except msgspec.MsgspecError:
        return
    check_version(path, version)


def check_version(path: Path, version: int) -> None:
    """Refuse a document that a newer comfygov wrote."""
    if version > SCHEMA_VERSION:
        raise GovError(
            Code.HOME_NEWER,
            f"{path} was written by a newer comfygov (format {version}, this one knows {SCHEMA_VERSION})",
            "update comfygov, then run the command again",
        )


class _Entry(msgspec.Struct, Generic[T], array_like=True):
    stamp: tuple[int, int]
    value: T


class Index(Generic[T]):
    """A cache of small facts about many files, so that 1 000 records are not read one by one.

    Never the truth: an entry counts only while its file has the same size and mtime, and a lost or
    damaged index is made again.
    """

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(dict[str, _Entry[kind]])  # type: ignore[valid-type]

    def entries(self, files: Iterable[tuple[str, str]], read: Callable[[str], T]) -> dict[str, T]:
        """`files` are (name, path); `read` makes the fact of a path that is new or changed."""
        known = self._load()
        fresh: dict[str, _Entry[T]] = {}
        for name, path in files:
            try:
                facts = os.stat(path)  # noqa: PTH116 (1 000 records within a budget of milliseconds)
            except FileNotFoundError:
                continue
            stamp = (facts.st_mtime_ns, facts.st_size)
            old = known.get(name)
            fresh[name] = old if old and old.stamp == stamp else _Entry(stamp, read(path))
        if fresh != known:
            self._save(fresh)
        return {name: entry.value for name, entry in fresh.items()}

    def _load(self) -> dict[str, _Entry[T]]:
        try:
            return self._decoder.decode(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return {}

    def _save(self, entries: dict[str, _Entry[T]]) -> None:
        try:
            fs.write_atomic(self._path, msgspec.json.encode(entries))
        except OSError:
            # A read-only or full home can still be looked at; the index is made again next time.
            return
