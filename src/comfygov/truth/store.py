"""JSON documents on disk: decoded strictly by type, written atomically and readably."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import SCHEMA_VERSION
from comfygov.ports import clock, fs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")
_TICK_NS = 2_000_000_000


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
        hint = f"bring it back from a backup, or move it aside: mv {path} {path}.damaged"
        raise GovError(Code.HOME_DAMAGED, f"{path} cannot be read: {error}", hint) from error


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


class _Table(msgspec.Struct, Generic[T]):
    """`directory` is the mtime of the directory that was indexed; 0 when it was too young to be trusted."""

    entries: dict[str, _Entry[T]]
    directory: int = 0


class Index(Generic[T]):
    """A cache of small facts about many files in one directory, so that 1 000 records are not read one by one.

    Never the truth: it counts while the directory has not changed (every save renames a file into it), and
    an entry counts while its file has the same size and mtime. A lost or damaged index is made again.
    """

    def __init__(self, path: Path, directory: Path, kind: type[T]) -> None:
        self._path = path
        self._directory = directory
        self._decoder = msgspec.json.Decoder(_Table[kind])  # type: ignore[valid-type]

    def entries(self, list_files: Callable[[], Iterable[tuple[str, str]]], read: Callable[[str], T]) -> dict[str, T]:
        """`list_files` gives (name, path); `read` makes the fact of a path that is new or changed."""
        known = self._load()
        changed_at = self._changed_at()
        if known.directory and known.directory == changed_at:
            return {name: entry.value for name, entry in known.entries.items()}
        fresh: dict[str, _Entry[T]] = {}
        for name, path in list_files():
            try:
                facts = os.stat(path)  # noqa: PTH116 (1 000 records within a budget of milliseconds)
            except FileNotFoundError:
                continue
            stamp = (facts.st_mtime_ns, facts.st_size)
            old = known.entries.get(name)
            fresh[name] = old if old and old.stamp == stamp else _Entry(stamp, read(path))
        table = _Table(fresh, changed_at if _is_settled(changed_at) else 0)
        if table != known:
            self._save(table)
        return {name: entry.value for name, entry in fresh.items()}

    def _changed_at(self) -> int:
        try:
            return os.stat(self._directory).st_mtime_ns  # noqa: PTH116
        except FileNotFoundError:
            return 0

    def _load(self) -> _Table[T]:
        try:
            return self._decoder.decode(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return _Table({})

    def _save(self, table: _Table[T]) -> None:
        try:
            fs.write_atomic(self._path, msgspec.json.encode(table))
        except OSError:
            # A read-only or full home can still be looked at; the index is made again next time.
            return


def _is_settled(mtime_ns: int) -> bool:
    """True when a later change must get another mtime: file systems count in ticks of some milliseconds."""
    return clock.wall_seconds() * 1e9 - mtime_ns > _TICK_NS
