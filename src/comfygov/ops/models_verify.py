"""`gov models verify`: say of every entry whether it is there and right, and fetch what is not there."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.models import GOOD, ModelState
from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.model.models import ModelEntry, Status
    from comfygov.models.fetch import Fetcher
    from comfygov.models.verify import Found
    from comfygov.ops.models_place import Place

DEFAULT_JOBS = 4
_ONE_FILE = (Code.PERMISSION, Code.TOOL_FAILED, Code.BAD_SOURCE, Code.TIMEOUT, Code.ALREADY_EXISTS)
"""Errors of one model; every other one (a full disk, an interrupt) ends the command."""
_BLOCK_BYTES = 512
_NO_SOURCE = "no source"


@dataclass(frozen=True)
class VerifyRequest:
    overwrite: bool = False
    offline: bool = False
    record: bool = False


class VerifyResult(msgspec.Struct, frozen=True):
    """`counts` is by status; `checked_bytes` were read from disk, `fetched_bytes` came from sources."""

    models_dir: str
    spec: str
    models: tuple[ModelState, ...]
    counts: dict[str, int]
    total_bytes: int
    checked_bytes: int
    fetched_bytes: int
    seconds: float

    @property
    def bad(self) -> tuple[ModelState, ...]:
        return tuple(model for model in self.models if model.status not in GOOD)


def verify(place: Place, request: VerifyRequest) -> VerifyResult:
    """Raises GovError when the spec cannot be read, the disk is full, or somebody interrupts."""
    if place.is_lock and request.record:
        raise GovError(Code.USAGE, "--record would change a lock", "record into a spec: --spec FILE")
    started = time.monotonic()
    look = place.look()
    try:
        found = look.look(place.entries())
        states = _Work(place, request).states(found)
        if request.record:
            states = _recorded(place, states)
    finally:
        place.memory.save()
    return VerifyResult(
        models_dir=str(place.folders.models_dir),
        spec=str(place.spec_path),
        models=tuple(states),
        counts=dict(sorted(Counter(state.status for state in states).items())),
        total_bytes=sum(state.size or 0 for state in states),
        checked_bytes=look.hashed_bytes,
        fetched_bytes=sum(state.fetched_bytes for state in states),
        seconds=round(time.monotonic() - started, 3),
    )


def problem_of(result: VerifyResult, *, overwrite: bool = False) -> GovError | None:
    """None when everything is right; else `network` when nothing but the network is to blame, else `drift`.
    `overwrite`: what is wrong was to be mended, and could not be."""
    bad = result.bad
    if not bad:
        return None
    count = len(bad)
    message = f"{count} of {len(result.models)} models {'is' if count == 1 else 'are'} not right"
    by_status = {state.status for state in bad}
    if by_status == {"missing"} and all(state.network for state in bad):
        return GovError(Code.NETWORK, message, "run it again: what has arrived is kept")
    hints = {
        "wrong": "do what the lines above say"
        if overwrite
        else "gov models verify --overwrite fetches what the spec says",
        "refused": "take another format, or set [policy] model_formats",
        "unverifiable": "gov models verify --record writes the sums into the spec",
        "missing": "give the entry a source that has it, or put the file there"
        if all(_NO_SOURCE in state.problem for state in bad if state.status == "missing")
        else "do what the lines above say",
    }
    return GovError(Code.DRIFT, message, next(hints[status] for status in hints if status in by_status))


@dataclass
class _Work:
    """From what was found to what is said, by way of the downloads between."""

    place: Place
    request: VerifyRequest
    lock: threading.Lock = field(default_factory=threading.Lock)

    def states(self, found: Sequence[Found]) -> list[ModelState]:
        states = [self._judged(one) for one in found]
        wanted = [number for number, state in enumerate(states) if self._is_to_fetch(state)]
        if wanted:
            self._fetch(found, states, wanted)
        return states

    def _judged(self, one: Found) -> ModelState:
        entry = one.entry
        status, problem = self._status(one)
        return ModelState(
            entry.name,
            entry.target_path,
            str(one.path),
            status,
            one.facts.st_size if one.facts else None,
            _shown(one.checksum),
            _shown(entry.checksum),
            problem,
        )

    def _status(self, one: Found) -> tuple[Status, str]:
        entry = one.entry
        if self.place.is_strict and entry.is_pickled:
            return "refused", "its format can run code when it is loaded (policy.model_formats is strict)"
        if one.problem:
            return "wrong", one.problem
        if one.facts is None:
            return "missing", "it is not there"
        if one.has_wrong_size:
            has = f"it has {one.facts.st_size} bytes, not {entry.size}"
            return "wrong", f"{has}, and the right checksum: correct the spec" if one.has_right_sum else has
        if entry.checksum is None:
            return self._unpinned(one)
        if not one.is_right:
            return "wrong", f"it has {_shown(one.checksum)}, the spec says {_shown(entry.checksum)}"
        return "present", ""

    def _unpinned(self, one: Found) -> tuple[Status, str]:
        from comfygov.models import safetensors

        problem = safetensors.problem_of(one.path)
        return ("wrong", problem) if problem else ("unverifiable", "the spec has no checksum for it")

    def _is_to_fetch(self, state: ModelState) -> bool:
        is_right_but_for_its_size = state.checksum is not None and state.checksum == state.expected
        is_to_mend = state.status == "wrong" and self.request.overwrite and not is_right_but_for_its_size
        return state.status == "missing" or is_to_mend

    def _fetch(self, found: Sequence[Found], states: list[ModelState], wanted: list[int]) -> None:
        from comfygov.models import crew
        from comfygov.models.meter import Meter

        entries = [self._allowed(found[number].entry) for number in wanted]
        self._refuse_without_room(entries)
        meter = Meter(self.place.progress, "fetching", len(wanted), sum(entry.size or 0 for entry in entries))
        jobs = self.place.jobs or DEFAULT_JOBS
        fetcher = self.place.fetcher(meter, min(jobs, len(wanted)))
        for folder in {self.place.folders.target(entry.target_path).parent for entry in entries}:
            fs.remove_leftovers(folder)
        by_number = dict(zip(wanted, entries, strict=True))

        def work(number: int) -> None:
            target = self.place.folders.target(by_number[number].target_path)
            states[number] = self._after(states[number], by_number[number], target, fetcher)

        largest_first = sorted(wanted, key=lambda number: -(by_number[number].size or 0))
        crew.run(largest_first, work, jobs, self.place.stop, meter.show)

    def _allowed(self, entry: ModelEntry) -> ModelEntry:
        """Without a network only files and the store are asked."""
        if not self.request.offline:
            return entry
        from comfygov.models import sources

        base = self.place.spec_path.parent
        kept = tuple(text for text in entry.sources if sources.parse(text, base).kind == "file")
        return msgspec.structs.replace(entry, sources=kept)

    def _after(self, state: ModelState, entry: ModelEntry, target: Path, fetcher: Fetcher) -> ModelState:
        from comfygov.models.fetch import NotFetched

        try:
            got = fetcher.fetch(entry, target, replace=state.status == "wrong")
        except NotFetched as failure:
            why = f"{_NO_SOURCE} gave it" if entry.sources else f"{_NO_SOURCE} is known for it"
            why = f"{why} (offline)" if self.request.offline else why
            problem = why if state.status == "missing" else f"{state.problem}; {why}"
            return msgspec.structs.replace(
                state, problem=problem, skipped=failure.skipped, network=failure.network, path=str(target)
            )
        except GovError as error:
            if error.code not in _ONE_FILE:
                raise
            return msgspec.structs.replace(state, problem=error.message)
        done: Status = "mended" if state.status == "wrong" else "fetched"
        return ModelState(
            entry.name,
            entry.target_path,
            str(target),
            done if entry.checksum else "unverifiable",
            got.size,
            _shown(got.checksum),
            _shown(entry.checksum),
            "" if entry.checksum else "the spec has no checksum for it; it was fetched",
            got.source,
            got.skipped,
            got.received,
        )

    def _refuse_without_room(self, entries: Sequence[ModelEntry]) -> None:
        store = self.place.store
        with fs.explained(store.root):
            store.partial.mkdir(parents=True, exist_ok=True)
        missing = [e for e in entries if e.checksum is None or not store.path(e.checksum).exists()]
        needed = sum(entry.size or 0 for entry in missing) - sum(
            _bytes_on_disk(store.partial / f"{entry.checksum}.part") for entry in missing if entry.checksum
        )
        free = fs.free_bytes(store.partial)
        if needed > free:
            raise GovError(
                Code.DISK_FULL,
                f"{store.root} has {free} bytes free; the models that are missing need {needed}",
                "free space (`gov models gc`), or set COMFYGOV_CACHE to another disk",
            )


def _bytes_on_disk(path: Path) -> int:
    try:
        return os.stat(path).st_blocks * _BLOCK_BYTES  # noqa: PTH116
    except FileNotFoundError:
        return 0


def _recorded(place: Place, states: list[ModelState]) -> list[ModelState]:
    """Write the sums that were found into the spec, for entries that have none.

    The spec is read again: while models were fetched its entries may have moved, and one may have got a sum.
    """
    from comfygov.models import spec_writing

    sums = {state.target_path: state for state in states if state.status == "unverifiable" and state.checksum}
    if not sums:
        return states
    with place.spec_held():
        entries = place.entries()
        found = {
            number: (str(sums[entry.target_path].checksum).removeprefix("sha256:"), sums[entry.target_path].size or 0)
            for number, entry in enumerate(entries)
            if entry.checksum is None and entry.target_path in sums
        }
        if found:
            spec_writing.record(place.spec_path, found)
    recorded = {entries[number].target_path for number in found}
    return [
        msgspec.structs.replace(state, status="recorded", problem="", expected=state.checksum)
        if state.target_path in recorded
        else state
        for state in states
    ]


def _shown(checksum: str | None) -> str | None:
    return f"sha256:{checksum}" if checksum else None
