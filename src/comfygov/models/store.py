"""One copy of each model, named by its sha256, in the cache that all homes share."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.models.hashing import BLOCK_BYTES, Memory, sha256_of
from comfygov.ports import faults, filesystem, fs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_NO_HARDLINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)
_SETTLED_SECONDS = 10
_READ_ONLY = 0o444
"""A blob has other names in models folders: what writes into one of them would change all."""
_WAIT_SECONDS = 7 * 86_400.0


@dataclass
class BlobStore:
    """`root` holds blobs/ab/abcd… and, of downloads under way, partial/."""

    root: Path
    memory: Memory
    _copying: Lock = field(default_factory=Lock)

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def partial(self) -> Path:
        return self.root / "partial"

    def path(self, checksum: str) -> Path:
        return self.blobs / checksum[:2] / checksum

    def held(self, key: str, command: str, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Alone with one blob or download, among all processes; whoever waits finds it done."""
        from comfygov.ports import lock

        return lock.passing(self.partial / f"{key}.lock", command, _WAIT_SECONDS, waiting)

    def has(self, checksum: str, seen: Callable[[int], None]) -> bool:
        """True when the blob is there and is what its name says; it is read when its facts have changed.

        A blob that was written to through one of its other names is taken out of the store (the names stay).
        """
        path = self.path(checksum)
        try:
            facts = path.stat()
        except FileNotFoundError:
            return False
        known = self.memory.known(facts)
        if known is None:
            known = sha256_of(path, seen)
            self.memory.remember(facts, known)
        if known != checksum:
            path.unlink()
        return known == checksum

    def take(self, part: Path, checksum: str) -> Path:
        """Make a whole, checked and flushed download a blob, with one rename."""
        path = self.path(checksum)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A settled mtime: whatever writes to the file from now on gives it another one.
        moment = int(time.time()) - _SETTLED_SECONDS
        os.utime(part, (moment, moment))
        part.chmod(_READ_ONLY)
        self.memory.remember(part.stat(), checksum)
        faults.point("blob.checked")
        part.replace(path)
        fs.fsync_directory(path.parent)
        faults.point("blob.stored")
        return path

    def place(self, checksum: str, target: Path, seen: Callable[[int], None], *, replace: bool) -> None:
        """Give the blob the name `target`: a hardlink, else shared blocks, else a copy.

        Without `replace` a file that is there stays; raises `already_exists` when it is another one. `seen` is told
        each block's bytes of a copy, and may raise to stop.
        """
        if target.is_dir() and not target.is_symlink():
            raise GovError(Code.ALREADY_EXISTS, f"a folder is in its place ({target})", "move it away")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not by the target's name: with ours around it, it could be too long.
        temporary = fs.beside(target.with_name(checksum[:16]), "tmp")
        temporary.unlink(missing_ok=True)
        try:
            self._link(self.path(checksum), temporary, seen)
            faults.point("model.staged")
            if replace:
                temporary.replace(target)
            else:
                self._take_free_name(temporary, target, checksum, seen)
        finally:
            temporary.unlink(missing_ok=True)
        fs.fsync_directory(target.parent)
        self.memory.remember(target.stat(), checksum)
        faults.point("model.placed")

    def _take_free_name(self, temporary: Path, target: Path, checksum: str, seen: Callable[[int], None]) -> None:
        try:
            os.link(temporary, target)
        except FileExistsError as error:
            if not target.is_file() or sha256_of(target, seen) != checksum:
                message = f"{target} has appeared while the model was fetched, and is another file"
                raise GovError(Code.ALREADY_EXISTS, message, "gov models verify --overwrite replaces it") from error
        except OSError as error:
            if error.errno not in _NO_HARDLINK:
                raise
            temporary.replace(target)

    def _link(self, blob: Path, temporary: Path, seen: Callable[[int], None]) -> None:
        try:
            os.link(blob, temporary)
        except OSError as error:
            if error.errno not in _NO_HARDLINK:
                raise
            with self._copying:  # one by one: what is free is what the next one may have
                clone_or_copy(blob, temporary, seen)

    def all_blobs(self) -> Iterator[Path]:
        if self.blobs.is_dir():
            for folder in sorted(self.blobs.iterdir()):
                yield from sorted(folder.iterdir())


def clone_or_copy(blob: Path, target: Path, seen: Callable[[int], None]) -> None:
    """On another file system, or where there are no hardlinks. Raises `disk_full` before the first byte."""
    facts = blob.stat()
    with blob.open("rb", buffering=0) as source, target.open("xb", buffering=0) as copy:
        if not filesystem.reflink(source.fileno(), copy.fileno()):
            _refuse_without_room(target, facts.st_size)
            buffer = memoryview(bytearray(BLOCK_BYTES))
            while count := source.readinto(buffer):
                _write_all(copy.fileno(), buffer[:count])
                seen(count)
        os.fsync(copy.fileno())
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _refuse_without_room(target: Path, size: int) -> None:
    free = fs.free_bytes(target.parent)
    if size > free:
        raise GovError(
            Code.DISK_FULL,
            f"{target.parent} has {free} bytes free, and a model needs {size}",
            "free space there, or let COMFYGOV_CACHE be on the same file system, so that nothing is copied",
        )
