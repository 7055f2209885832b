"""`gov models gc`: take away blobs that no models folder has, and downloads that nobody goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ports import clock, faults, fs, identity, lock
from comfygov.ports.usage import Freeing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.models.store import BlobStore

PART_DAYS = 7
_DAY_SECONDS = 86_400


class UnusedBlob(msgspec.Struct, frozen=True):
    """Something that goes, and the bytes that come free with it."""

    kind: Literal["blob", "download", "leftover"]
    path: str
    bytes: int
    reason: str


class ModelsGcResult(msgspec.Struct, frozen=True):
    dry_run: bool
    removed: tuple[UnusedBlob, ...]
    freed_bytes: int
    kept_blobs: int
    kept_bytes: int


def collect(store: BlobStore, command: str, *, dry_run: bool) -> ModelsGcResult:
    """A blob with another name is some home's model: it stays, and taking it would free nothing. A models folder on
    another file system has a copy of its own and needs none.

    Whatever a running command holds stays too.
    """
    removed: list[UnusedBlob] = []
    freeing = Freeing()
    for kind, path, key, reason in _unused(store):
        size = freeing.add(path)
        if dry_run or _remove(store, path, key, command):
            removed.append(UnusedBlob(kind, str(path), size, reason))
    kept = [path for path in store.all_blobs() if str(path) not in {item.path for item in removed}]
    freed = sum(item.bytes for item in removed)
    return ModelsGcResult(dry_run, tuple(removed), freed, len(kept), sum(path.stat().st_size for path in kept))


_Found = tuple[Literal["blob", "download", "leftover"], "Path", str, str]


def _unused(store: BlobStore) -> Iterator[_Found]:
    for path in store.all_blobs():
        if path.stat().st_nlink == 1:
            yield "blob", path, path.name, "no models folder on its disk has it"
    yield from (("leftover", path, "", "a command that was killed left it") for path in fs.leftovers(store.root))
    for path in sorted(store.partial.iterdir()) if store.partial.is_dir() else []:
        pid = fs.leftover_of(path.name)
        if pid is not None and identity.started_at(pid) is None:
            yield "leftover", path, "", "a command that was killed left it"
        elif lock.holder(path.with_suffix(".lock")) is not None:
            continue
        elif path.suffix == ".lock":
            yield "leftover", path, path.stem, "a command that was killed left it"
        elif path.suffix == ".json" and not path.with_suffix(".part").exists():
            yield "leftover", path, path.stem, "the record of a download that is done"
        elif path.suffix == ".part" and not path.with_suffix(".json").exists():
            yield "download", path, path.stem, "how far it came is not known: nobody can go on with it"
        elif path.suffix == ".part" and _is_old(path):
            yield "download", path, path.stem, f"nobody went on with it for {PART_DAYS} days"


def _is_old(path: Path) -> bool:
    return clock.wall_seconds() - path.stat().st_mtime > PART_DAYS * _DAY_SECONDS


def _remove(store: BlobStore, path: Path, key: str, command: str) -> bool:
    """False when a running command uses it."""

    def busy() -> None:
        raise GovError(Code.BUSY, f"{path} is in use", "wait until that command is done")

    if not key:
        path.unlink(missing_ok=True)
        return True
    try:
        with lock.passing(store.partial / f"{key}.lock", command, 0.0, busy):
            if path.parent != store.partial and path.stat().st_nlink > 1:
                return False
            faults.point("gc.removing")
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    except GovError as error:
        if error.code is not Code.BUSY:
            raise
        return False
    return True
