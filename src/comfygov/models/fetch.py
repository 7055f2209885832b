"""A model into the store and into its place: sources in order, each judged, one download for all processes."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.model.models import SAFETENSORS
from comfygov.models import safetensors, sources
from comfygov.models.hashing import BLOCK_BYTES
from comfygov.models.part import Part
from comfygov.models.remote import Unfit
from comfygov.models.transfer import Got, Transfer, Want, refuse_without_room
from comfygov.ports import fs
from comfygov.ports.http import HttpFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.model.models import ModelEntry
    from comfygov.models.access import Access
    from comfygov.models.crew import Stop
    from comfygov.models.meter import Meter
    from comfygov.models.sources import Source
    from comfygov.models.store import BlobStore
    from comfygov.models.transfer import Policy
    from comfygov.ports.progress import Progress


@dataclass(frozen=True)
class Fetched:
    """A blob that is in the store now. `source` is None when it was there before."""

    checksum: str
    size: int
    source: str | None = None
    received: int = 0
    skipped: tuple[str, ...] = ()


class NotFetched(Exception):
    """No source gave the right bytes; `skipped` says why, one by one. `network`: another time one may."""

    def __init__(self, skipped: tuple[str, ...], *, network: bool) -> None:
        super().__init__("; ".join(skipped) or "it has no source")
        self.skipped = skipped
        self.network = network


@dataclass
class Fetcher:
    """Everything that the downloads of one command share. `base` is where relative paths of sources start."""

    store: BlobStore
    access: Access
    policy: Policy
    meter: Meter
    stop: Stop
    progress: Progress
    command: str
    base: Path

    def fetch(
        self,
        entry: ModelEntry,
        target: Path,
        *,
        replace: bool = False,
        stored: Callable[[Fetched], None] = lambda _: None,
    ) -> Fetched:
        """Bring `entry` into the store and to `target`. Without `replace` another file that has appeared there
        meanwhile stays, and is an error. `stored` is called between the two. Raises NotFetched, GovError."""
        judged = [sources.parse(text, self.base) for text in entry.sources]
        key = entry.checksum or hashlib.sha256("\n".join(one.location for one in judged).encode()).hexdigest()
        with ExitStack() as stack:
            locks = _Locks(self, entry.name, stack)
            locks.hold(key)
            found = self._from_store(entry) or self._from_sources(entry, judged, locks)
            stored(found)
            with fs.explained(target):
                self.store.place(found.checksum, target, self._looked, replace=replace)
        self.meter.file_done()
        return found

    def _from_store(self, entry: ModelEntry) -> Fetched | None:
        if entry.checksum is None or not self.store.has(entry.checksum, self._looked):
            return None
        size = self.store.path(entry.checksum).stat().st_size
        if entry.size not in (None, size):
            raise NotFetched((f"the cache: it has {size} bytes, not {entry.size}",), network=False)
        self.meter.add(size)
        return Fetched(entry.checksum, size)

    def _looked(self, count: int) -> None:
        del count
        self.stop.check()

    def _from_sources(self, entry: ModelEntry, judged: list[Source], locks: _Locks) -> Fetched:
        skipped: list[str] = []
        network = False
        full: GovError | None = None
        for source in judged:
            try:
                got = self._from_source(entry, source, locks)
            except HttpFailure as failure:
                network = network or failure.transient or failure.status == 0
                skipped.append(f"{source.public}: {failure}{login_words(source, failure)}")
            except (Unfit, safetensors.BadHeader) as problem:
                skipped.append(f"{source.public}: {problem}")
            except GovError as error:
                # Without a size in the spec it is the word of this source that so much is needed.
                if error.code is not Code.DISK_FULL or entry.size is not None:
                    raise
                full = full or error
                skipped.append(f"{source.public}: {error.message}")
            else:
                return Fetched(got.checksum, got.size, source.public, got.received, tuple(skipped))
            self.stop.check()
        if full is not None:
            raise GovError(full.code, full.message, full.hint, tuple(skipped)) from full
        raise NotFetched(tuple(skipped), network=network)

    def _from_source(self, entry: ModelEntry, source: Source, locks: _Locks) -> Got:
        with fs.explained(self.store.partial):
            part = Part(self.store.partial / f"{locks.keys[0]}.part")
        try:
            got = self._whole(entry, source, part)
            with fs.explained(part.path):
                locks.hold(got.checksum)
                self._keep(got, part)
        except (Unfit, safetensors.BadHeader):
            part.remove()
            raise
        except BaseException:
            if part.state() is None:
                part.remove()  # nobody can go on with it, and it may be what has filled the disk
            raise
        else:
            return got
        finally:
            part.close()

    def _whole(self, entry: ModelEntry, source: Source, part: Part) -> Got:
        """What was resumed and has the wrong sum is fetched once more from its first byte: a part that is wrong
        must not be held against the source."""
        got = self._bring(entry, source, part)
        try:
            _judge(entry, got, part)
        except (Unfit, safetensors.BadHeader):
            if not got.resumed:
                raise
            part.start_over(None)
            self.meter.add(-got.size)
            got = self._bring(entry, source, part)
            _judge(entry, got, part)
        return got

    def _bring(self, entry: ModelEntry, source: Source, part: Part) -> Got:
        want = Want(entry.checksum, entry.size)
        if source.kind == "file":
            return self._copy(Path(source.location), want, part)
        transfer = Transfer(self.access, source, want, self.policy, self.meter, self.stop)
        try:
            return transfer.run(part)
        except BaseException:
            transfer.uncount()
            raise

    def _copy(self, path: Path, want: Want, part: Part) -> Got:
        part.start_over(None)
        digest = hashlib.sha256()
        size = 0
        try:
            with _open_file(path) as file:
                length = os.fstat(file.fileno()).st_size
                if want.size not in (None, length):
                    raise Unfit(f"it has {length} bytes, not {want.size}")
                refuse_without_room(part, length, self.policy.reserve_bytes)
                while data := file.read(BLOCK_BYTES):
                    self.stop.check()
                    with fs.explained(part.path):
                        part.write(data, size)
                    digest.update(data)
                    size += len(data)
                    self.meter.add(len(data))
        except OSError as error:
            raise Unfit(f"it cannot be read: {error.strerror}") from error
        with fs.explained(part.path):
            part.flush()
        return Got(digest.hexdigest(), size, size, 0, None)

    def _keep(self, got: Got, part: Part) -> None:
        if self.store.has(got.checksum, self._looked):
            part.remove()
            return
        self.store.take(part.path, got.checksum)
        part.record.unlink(missing_ok=True)


@dataclass
class _Locks:
    """What one fetch holds until its model has its place: the download, and the blob as soon as its sum is known. A
    blob without a second name that nobody holds is garbage."""

    fetcher: Fetcher
    name: str
    stack: ExitStack
    keys: list[str] = field(default_factory=list)
    _said: bool = False

    def hold(self, key: str) -> None:
        if key not in self.keys:
            self.stack.enter_context(self.fetcher.store.held(key, self.fetcher.command, self._waiting))
            self.keys.append(key)

    def _waiting(self) -> None:
        self.fetcher.stop.check()
        if not self._said:
            self._said = True
            self.fetcher.progress.note(f"{self.name}: the same file is being fetched already; waiting for that")


_LOGINS = {
    "hf": "set HF_TOKEN",
    "civitai": "set CIVITAI_TOKEN",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "http": "put a login into ~/.netrc",
}


def login_words(source: Source, failure: HttpFailure) -> str:
    """What is missing when the far end wants to know who asks; "" for every other failure."""
    return f": {_LOGINS[source.kind]}, or one that may have it" if failure.status in (401, 403) else ""


def _open_file(path: Path) -> FileIO:
    """A plain file and nothing else: a pipe or a device may never end."""
    file = FileIO(path, opener=_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Unfit("it is no file")
    return file


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def _judge(entry: ModelEntry, got: Got, part: Part) -> None:
    """Raises Unfit, BadHeader. With a checksum in the spec nothing else has a say."""
    if entry.checksum is not None:
        if got.checksum != entry.checksum:
            raise Unfit(f"wrong bytes: it has sha256:{got.checksum}, wanted is sha256:{entry.checksum}")
        return
    if entry.size is not None and got.size != entry.size:
        raise Unfit(f"it has {got.size} bytes, not {entry.size}")
    if got.published is not None and got.published != got.checksum:
        raise Unfit(f"wrong bytes: it has sha256:{got.checksum}, published is sha256:{got.published}")
    if entry.target_path.lower().endswith(SAFETENSORS):
        safetensors.read(part.path)
