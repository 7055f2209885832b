"""What is on disk of the models that a spec names, and whether it is what the spec says."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.models.hashing import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from comfygov.model.models import ModelEntry
    from comfygov.models.crew import Stop
    from comfygov.models.folders import Folders
    from comfygov.models.hashing import Memory
    from comfygov.ports.progress import Progress


@dataclass
class Found:
    """One entry and the file that is there for it. `checksum` is None as long as it was not made; `problem` says
    why a file cannot be judged at all."""

    entry: ModelEntry
    path: Path
    facts: os.stat_result | None = None
    checksum: str | None = None
    problem: str = ""

    @property
    def has_wrong_size(self) -> bool:
        return self.facts is not None and self.entry.size not in (None, self.facts.st_size)

    @property
    def has_right_sum(self) -> bool:
        return self.checksum is not None and self.checksum == self.entry.checksum

    @property
    def is_right(self) -> bool:
        return self.has_right_sum and not self.has_wrong_size


@dataclass
class Look:
    """Finds and sums. `hashed_bytes` counts what was really read."""

    folders: Folders
    memory: Memory
    stop: Stop
    progress: Progress
    threads: int
    hashed_bytes: int = field(default=0)

    def look(self, entries: Sequence[ModelEntry], *, read: bool = True) -> list[Found]:
        """One Found for each entry. With `read` every file that is not remembered is summed; a file whose
        size is wrong is not, but for saying what it has."""
        found = [self._find(entry) for entry in entries]
        if read:
            self.sum_all([one for one in found if one.facts is not None])
            self._look_elsewhere(found)
        return found

    def _find(self, entry: ModelEntry) -> Found:
        found = self._at(entry, self.folders.target(entry.target_path))
        if found.facts is None and not found.problem:
            return next(self._elsewhere(entry), found)
        return found

    def _elsewhere(self, entry: ModelEntry) -> Iterator[Found]:
        """Files in other folders that may be it, as far as that is known without reading them."""
        for path in self.folders.elsewhere(entry.target_path):
            one = self._at(entry, path)
            is_known_to_be_another = None not in (one.checksum, entry.checksum) and not one.has_right_sum
            if one.facts is not None and not one.has_wrong_size and not is_known_to_be_another:
                yield one

    def _at(self, entry: ModelEntry, path: Path) -> Found:
        try:
            facts = os.stat(path)  # noqa: PTH116 (10 000 of them)
        except FileNotFoundError:
            dangling = "its place is a link that leads nowhere" if os.path.islink(path) else ""  # noqa: PTH114
            return Found(entry, path, problem=dangling)
        except OSError as error:
            return Found(entry, path, problem=f"its place cannot be read: {error.strerror}")
        if not stat.S_ISREG(facts.st_mode):
            return Found(entry, path, problem="something that is no file is in its place")
        return Found(entry, path, facts, self.memory.known(facts))

    def _look_elsewhere(self, found: list[Found]) -> None:
        """A file that ComfyUI would find in another folder counts when it is right, and not when it is not."""
        for number, one in enumerate(found):
            own = self.folders.target(one.entry.target_path)
            if one.path != own and one.entry.checksum is not None and not one.is_right:
                found[number] = self._right_one_elsewhere(one) or Found(one.entry, own)

    def _right_one_elsewhere(self, wrong: Found) -> Found | None:
        for one in self._elsewhere(wrong.entry):
            if one.path != wrong.path:
                self.sum_all([one])
            if one.is_right:
                return one
        return None

    def sum_all(self, found: Iterable[Found]) -> None:
        """Sums of what is not remembered, the largest first, on all threads."""
        todo = [one for one in found if one.checksum is None and one.facts is not None]
        if not todo:
            return
        from comfygov.models import crew
        from comfygov.models.meter import Meter

        todo.sort(key=lambda one: -(one.facts.st_size if one.facts else 0))
        meter = Meter(self.progress, "checking", len(todo), sum(one.facts.st_size for one in todo if one.facts))
        lock = threading.Lock()

        def seen(count: int) -> None:
            self.stop.check()
            meter.add(count)

        def work(one: Found) -> None:
            self._sum(one, seen)
            meter.file_done()
            with lock:
                self.hashed_bytes += one.facts.st_size if one.facts else 0

        crew.run(todo, work, self.threads, self.stop, meter.show)

    def _sum(self, one: Found, seen: Callable[[int], None]) -> None:
        assert one.facts is not None  # noqa: S101 (only such are given)
        try:
            one.checksum = sha256_of(one.path, seen)
        except OSError as error:
            one.problem = f"it cannot be read: {error.strerror}"
            return
        if not _is_unchanged(one):
            one.checksum, one.problem = None, "it changed while it was read"
            return
        self.memory.remember(one.facts, one.checksum)


def _is_unchanged(one: Found) -> bool:
    """False for a file that somebody still writes: half of it must not become a pin."""
    try:
        now = os.stat(one.path)  # noqa: PTH116
    except OSError:
        return False
    facts = one.facts
    return facts is not None and (now.st_ino, now.st_size, now.st_mtime_ns) == (
        facts.st_ino,
        facts.st_size,
        facts.st_mtime_ns,
    )
