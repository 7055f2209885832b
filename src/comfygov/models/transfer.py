"""One download from one source: pieces over several connections, resumed, retried, summed while it comes."""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.models.part import Follower, Part, PartState, Piece, Pieces
from comfygov.models.remote import Remote, StartOver, Unfit, length_of, total_of
from comfygov.ports import faults, fs
from comfygov.ports.http import HttpFailure

if TYPE_CHECKING:
    from comfygov.models.access import Access
    from comfygov.models.crew import Stop
    from comfygov.models.meter import Meter
    from comfygov.models.sources import Source
    from comfygov.ports import http

_READ_BYTES = 1 << 20
_SMALL_BYTES = 8 << 20
"""Below this a thread for the sum, and records of how far it is, cost more than they save."""
_SAVE_SECONDS = 2.0
_LOOK_SECONDS = 0.05
_MAX_RESTARTS = 3
_MAX_WAIT_SECONDS = 30.0
_WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<\?xml)", re.IGNORECASE)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Policy:
    """How a download is done. Sizes in bytes."""

    piece_bytes: int = 32 << 20
    connections: int = 4
    attempts: int = 5
    backoff_seconds: float = 0.5
    most_bytes: int = 1 << 40
    """What a server that does not say how much it has may send."""
    reserve_bytes: int = 64 << 20


@dataclass(frozen=True)
class Want:
    """What the bytes must be, as far as that is known."""

    checksum: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Got:
    """`checksum` is that of the part file; `published` what the server said that it is; `resumed` how many
    bytes were there before."""

    checksum: str
    size: int
    received: int
    resumed: int
    published: str | None


class Transfer:
    """Brings one source into one part file. Raises HttpFailure, Unfit, GovError (disk full, interrupted)."""

    def __init__(self, access: Access, source: Source, want: Want, policy: Policy, meter: Meter, stop: Stop) -> None:
        self._source = source
        self._want = want
        self._policy = policy
        self._meter = meter
        self._stop = stop
        self._address = hashlib.sha256(source.location.encode()).hexdigest()
        self._remote = Remote(access, source, policy.piece_bytes, want.checksum is not None)
        self._received = 0
        self._resumed = 0
        self._announced = 0
        self._errors: list[BaseException] = []
        self._count_lock = threading.Lock()

    def run(self, part: Part) -> Got:
        """Until every byte is in `part`, flushed to disk. What has arrived stays there when it fails."""
        said = ""
        for attempt in range(_MAX_RESTARTS + 1):
            try:
                return self._once(part, fresh=attempt > 0)
            except StartOver as reason:
                said = str(reason)
                self.uncount()
                self._stop.sleep(self._policy.backoff_seconds * attempt)
        raise HttpFailure(said, transient=False)

    def uncount(self) -> None:
        """Take what has arrived out of what is shown: it does not count."""
        self._meter.add(-self._received - self._resumed)
        self._received = self._resumed = 0

    # -- one attempt ------------------------------------------------------------------------------

    def _once(self, part: Part, *, fresh: bool) -> Got:
        pieces = None if fresh else self._resumable(part)
        first = pieces.claim() if pieces else Piece(0, self._policy.piece_bytes, 0, claimed=True)
        if first is None:
            assert pieces is not None  # noqa: S101 (every byte of it had arrived)
            return self._finish(part, pieces, Follower(part, pieces))
        answer = self._open_patiently(first, resuming=pieces is not None)
        try:
            if pieces is None:
                pieces, first = self._lay_out(part, answer)
            self._refuse_page(answer)
        except BaseException:
            answer.close()
            raise
        return self._read_all(part, pieces, first, answer)

    def _resumable(self, part: Part) -> Pieces | None:
        """What an earlier command left of this very source, if the server can be asked whether it still holds."""
        state = part.state()
        if state is None or state.source != self._address or self._want.size not in (None, state.size):
            return None
        if not state.etag and not state.last_modified and self._want.checksum is None:
            return None
        self._remote.validators = (state.etag, state.last_modified)
        self._remote.size = state.size
        pieces = Pieces.split(state.size, state.piece_bytes, state.positions)
        self._resumed = pieces.arrived()
        self._meter.add(self._resumed)
        return pieces

    def _open_patiently(self, piece: Piece, *, resuming: bool) -> http.Answer:
        """The first answer, with retries like every other."""
        for attempt in range(1, self._policy.attempts + 1):
            try:
                return self._remote.open(piece, resuming=resuming, has_bytes=self._has_bytes)
            except HttpFailure as failure:
                if not failure.transient or attempt == self._policy.attempts:
                    raise
                self._pause(attempt, failure)
        raise AssertionError  # pragma: no cover

    def _lay_out(self, part: Part, answer: http.Answer) -> tuple[Pieces, Piece]:
        """Pieces for what the first answer says of itself, and room on the disk for them."""
        ranged = answer.status == 206
        size = total_of(answer) if ranged else length_of(answer)
        self._judge_size(size, answer)
        if size is not None:
            refuse_without_room(part, size, self._policy.reserve_bytes)
        part.start_over(size)
        self._remote.accept(answer, size)
        pieces = Pieces.split(size, self._policy.piece_bytes) if ranged and size is not None else Pieces.whole(size)
        first = pieces.claim() or pieces.pieces[0]
        return pieces, first

    def _judge_size(self, size: int | None, answer: http.Answer) -> None:
        want = self._want
        if size is None:
            framed = answer.headers.get("transfer-encoding", "").lower().endswith("chunked")
            if not framed and want.size is None and want.checksum is None:
                raise Unfit("it does not say how long the file is, and no size or checksum is known")
            return
        if want.size is not None and size != want.size:
            raise Unfit(f"it has {size} bytes, not {want.size}")
        if size > self._policy.most_bytes:
            raise Unfit(f"it has {size} bytes, more than the {self._policy.most_bytes} that are taken")
        if want.size is None:
            self._meter.grow(size - self._announced)
            self._announced = size

    def _refuse_page(self, answer: http.Answer) -> None:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise Unfit(f"it served a web page instead of the file{_login_hint(self._source)}")
        if encoding not in ("identity", ""):
            raise Unfit(f"it served the file encoded as {encoding}, which was not asked for")

    def _read_all(self, part: Part, pieces: Pieces, first: Piece, answer: http.Answer) -> Got:
        size = pieces.pieces[-1].end
        if len(pieces.pieces) == 1 and size is not None and size <= _SMALL_BYTES:
            self._read_piece(part, first, answer)
            self._refuse_first_bytes(part)
            return self._finish(part, pieces, Follower(part, pieces))
        follower = Follower(part, pieces)
        try:
            self._with_helpers(part, pieces, first, answer)
            return self._finish(part, pieces, follower)
        except BaseException:
            follower.give_up()
            raise

    def _finish(self, part: Part, pieces: Pieces, follower: Follower) -> Got:
        part.flush()
        checksum = follower.finish()
        faults.point("fetch.whole")
        self._refuse_first_bytes(part)
        return Got(checksum, pieces.pieces[-1].position, self._received, self._resumed, self._remote.published)

    def _refuse_first_bytes(self, part: Part) -> None:
        head = part.first_bytes(256)
        if _WEB_PAGE.match(head):
            raise Unfit(f"it served a web page instead of the file{_login_hint(self._source)}")
        if head.startswith(_LFS_POINTER):
            raise Unfit("it served a git-lfs pointer instead of the file")

    # -- several connections ----------------------------------------------------------------------

    def _with_helpers(self, part: Part, pieces: Pieces, first: Piece, answer: http.Answer) -> None:
        """Read all pieces in threads, and meanwhile write down how far it is."""
        errors = self._errors = []

        def serve(piece: Piece | None, opened: http.Answer | None) -> None:
            try:
                while piece is not None and not errors:
                    self._read_piece(part, piece, opened)
                    piece, opened = pieces.claim(), None
            except BaseException as error:  # noqa: BLE001 (it is raised in the thread that waits)
                errors.append(error)

        helpers = min(self._policy.connections, pieces.open_count()) - 1
        threads = [threading.Thread(target=serve, args=(first, answer), daemon=True)]
        threads += [threading.Thread(target=serve, args=(pieces.claim(), None), daemon=True) for _ in range(helpers)]
        for thread in threads:
            thread.start()
        self._watch(part, pieces, threads)
        if errors:
            if not any(isinstance(error, StartOver) for error in errors):
                self._save(part, pieces)
            raise next((error for error in errors if isinstance(error, (StartOver, GovError))), errors[0])
        self._stop.check()

    def _watch(self, part: Part, pieces: Pieces, threads: list[threading.Thread]) -> None:
        saved = time.monotonic()
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK_SECONDS)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self._save(part, pieces)
                    saved = time.monotonic()

    def _save(self, part: Part, pieces: Pieces) -> None:
        last = pieces.pieces[-1]
        if last.end is None:
            refuse_without_room(part, 0, self._policy.reserve_bytes)
            return
        etag, modified = self._remote.validators
        piece_bytes = (pieces.pieces[0].end or 0) or last.end
        positions = tuple(piece.position for piece in pieces.pieces)
        part.save(PartState(self._address, last.end, etag, modified, piece_bytes, positions))

    def _read_piece(self, part: Part, piece: Piece, answer: http.Answer | None) -> None:
        """Until the piece is whole; a broken connection is opened again where it broke."""
        failures, begun = 0, piece.position
        while True:
            try:
                opened = answer or self._remote.open(piece, resuming=True, has_bytes=self._has_bytes)
                answer = None
                self._drain(part, piece, opened)
            except HttpFailure as failure:
                if piece.position - begun >= min(_READ_BYTES, self._policy.piece_bytes // 8):
                    failures, begun = 0, piece.position
                failures += 1
                if not failure.transient or failures >= self._policy.attempts:
                    raise
                self._pause(failures, failure)
            else:
                return

    def _drain(self, part: Part, piece: Piece, answer: http.Answer) -> None:
        whole = False
        try:
            while not piece.is_done:
                if self._errors:
                    raise self._errors[0]
                room = _READ_BYTES if piece.end is None else min(_READ_BYTES, piece.end - piece.position)
                data = answer.read(room)
                # Here and not before: a TLS socket that is shut gives out what came last as it came, encrypted.
                self._stop.check()
                if not data:
                    self._end_of_body(piece)
                    break
                with fs.explained(part.path):
                    part.write(data, piece.position)
                piece.position += len(data)
                self._count(len(data))
                self._refuse_endless(piece)
            whole = True
        finally:
            answer.close(reusable=whole and answer.status == 206)

    def _end_of_body(self, piece: Piece) -> None:
        if piece.end is not None:
            raise HttpFailure(f"it ended after {piece.position} of {piece.end} bytes", transient=True)
        if self._want.size is not None and piece.position != self._want.size:
            raise HttpFailure(f"it ended after {piece.position} of {self._want.size} bytes", transient=True)
        piece.end = piece.position

    def _refuse_endless(self, piece: Piece) -> None:
        most = self._want.size if self._want.size is not None else self._policy.most_bytes
        if piece.end is None and piece.position > most:
            raise Unfit(f"it sends more than {most} bytes")

    @property
    def _has_bytes(self) -> bool:
        return self._received + self._resumed > 0

    def _count(self, count: int) -> None:
        with self._count_lock:
            self._received += count
        self._meter.add(count)

    def _pause(self, failures: int, failure: HttpFailure) -> None:
        """Longer each time, and never in step with the others who were refused."""
        wait = self._policy.backoff_seconds * 2 ** (failures - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        self._stop.sleep(min(_MAX_WAIT_SECONDS, max(wait, failure.wait_seconds)))


def refuse_without_room(part: Part, size: int, reserve_bytes: int) -> None:
    free = fs.free_bytes(part.path.parent)
    if size + reserve_bytes > free:
        raise GovError(
            Code.DISK_FULL,
            f"{part.path.parent} has {free} bytes free; the download needs {size} and {reserve_bytes} to spare",
            "free space (`gov models gc`), or set COMFYGOV_CACHE to another disk",
        )


def _login_hint(source: Source) -> str:
    names = {"civitai": "CIVITAI_TOKEN", "hf": "HF_TOKEN"}
    return f" (does it want a login? set {names[source.kind]})" if source.kind in names else ""
