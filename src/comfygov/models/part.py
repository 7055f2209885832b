"""The unfinished file of a download: which bytes of it have arrived, also after a kill or a power cut."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from comfygov.models.hashing import BLOCK_BYTES
from comfygov.ports import faults, fs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_POLL_SECONDS = 0.005


class PartState(msgspec.Struct, frozen=True):
    """`partial/KEY.json`: how far a download has come. `source` is a digest of its address; `positions` says for
    each piece of `piece_bytes` up to where it has arrived; what it says is on disk."""

    source: str
    size: int
    etag: str
    last_modified: str
    piece_bytes: int
    positions: tuple[int, ...]


@dataclass
class Piece:
    """Bytes `start` to `end` (not included; None: as far as the server goes), written up to `position`."""

    start: int
    end: int | None
    position: int
    claimed: bool = False

    @property
    def is_done(self) -> bool:
        return self.end is not None and self.position >= self.end


@dataclass
class Pieces:
    """What one download consists of. Each piece is written by one thread; all may ask."""

    pieces: list[Piece]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def whole(cls, size: int | None) -> Pieces:
        return cls([Piece(0, size, 0)])

    @classmethod
    def split(cls, size: int, piece_bytes: int, positions: Sequence[int] = ()) -> Pieces:
        starts = range(0, size, piece_bytes) if size else range(1)
        made = [Piece(start, min(start + piece_bytes, size), start) for start in starts]
        for piece, position in zip(made, positions, strict=False):
            piece.position = min(max(piece.start, position), piece.end or 0)
        return cls(made)

    def claim(self) -> Piece | None:
        """The next piece that nobody works on and that is not whole."""
        with self._lock:
            for piece in self.pieces:
                if not piece.claimed and not piece.is_done:
                    piece.claimed = True
                    return piece
        return None

    def open_count(self) -> int:
        return sum(not piece.is_done for piece in self.pieces)

    def arrived(self) -> int:
        return sum(piece.position - piece.start for piece in self.pieces)

    def contiguous(self) -> int:
        """Up to here every byte is there."""
        return next((piece.position for piece in self.pieces if not piece.is_done), self.pieces[-1].position)


class Part:
    """The file and the record beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path.with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def state(self) -> PartState | None:
        try:
            found = msgspec.json.decode(self.record.read_bytes(), type=PartState)
        except (OSError, msgspec.MsgspecError):
            return None
        whole = os.fstat(self.descriptor).st_size == found.size and found.piece_bytes > 0
        return found if whole else None

    def save(self, state: PartState) -> None:
        """Bytes first, then the record of them: it never promises what a power cut has taken."""
        os.fdatasync(self.descriptor) if hasattr(os, "fdatasync") else os.fsync(self.descriptor)
        fs.write_atomic(self.record, msgspec.json.encode(state))
        faults.point("fetch.saved")

    def start_over(self, size: int | None) -> None:
        """Forget what has arrived; the record goes first, it must not speak of other bytes."""
        self.record.unlink(missing_ok=True)
        os.ftruncate(self.descriptor, 0)
        if size:
            os.ftruncate(self.descriptor, size)
        faults.point("fetch.begun")

    def write(self, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self.descriptor, rest, offset)
            rest, offset = rest[count:], offset + count

    def first_bytes(self, count: int) -> bytes:
        return os.pread(self.descriptor, count, 0)

    def flush(self) -> None:
        os.fsync(self.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)

    def remove(self) -> None:
        self.record.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Follower:
    """Makes the sum of a file while it is being written, in a thread of its own, always behind the writers."""

    def __init__(self, part: Part, pieces: Pieces) -> None:
        self._part = part
        self._pieces = pieces
        self._digest = hashlib.sha256()
        self._ends = threading.Event()
        self._given_up = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        at = 0
        buffer = memoryview(bytearray(BLOCK_BYTES))
        try:
            while not self._given_up:
                is_last = self._ends.is_set()
                until = self._pieces.contiguous()
                if at < until:
                    at += self._take(buffer, at, until)
                elif is_last:
                    return
                else:
                    self._ends.wait(_POLL_SECONDS)
        except OSError as error:
            self._error = error

    def _take(self, buffer: memoryview, at: int, until: int) -> int:
        count = os.preadv(self._part.descriptor, [buffer[: min(len(buffer), until - at)]], at)
        if not count:
            raise OSError("the unfinished file was cut off by somebody else")
        self._digest.update(buffer[:count])
        return count

    def finish(self) -> str:
        """The sum, when the writers are done."""
        self._ends.set()
        self._thread.join()
        if self._error:
            raise self._error
        return self._digest.hexdigest()

    def give_up(self) -> None:
        self._given_up = True
        self._ends.set()
        self._thread.join()
