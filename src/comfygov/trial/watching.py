"""What the packs of a trial did, from the lines that its processes told: a summary by pack, the worst first."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

from comfygov.model.tx import InstallRequest, PackActs
from comfygov.ports.desk import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_SHOWN = 50
_LOOPBACK = re.compile(r"(?:127\.\d+\.\d+\.\d+|::1|localhost|0\.0\.0\.0):[^:]*")
_FIELDS = {
    "process": "processes",
    "connect": "connections",
    "write": "writes",
    "delete": "deletes",
    "secret": "secrets",
    "library": "libraries",
}
# How much an act weighs when packs are put in order: what harms or leaks before what is only unusual.
_WEIGHTS = {
    "secrets": 100,
    "deletes": 50,
    "writes": 50,
    "connections": 20,
    "installs": 20,
    "processes": 5,
    "libraries": 1,
}


def read(log: Path) -> Iterator[Event]:
    """The events of a log; a line that was cut off is left out."""
    if not log.is_file():
        return
    with log.open("rb") as lines:
        for line in lines:
            try:
                yield msgspec.json.decode(line, type=Event)
            except msgspec.MsgspecError:
                continue


def lost(log: Path) -> tuple[str, ...]:
    """What the log says that it does not hold, by pack."""
    return tuple(
        f"{event.pack}: {event.what}" if event.pack else event.what for event in read(log) if event.kind == "lost"
    )


def summary(events: Iterable[Event], installs: Sequence[InstallRequest], own: Sequence[str]) -> tuple[PackActs, ...]:
    """One entry for each pack that did anything, or had it done by another. What happened below `own` paths is the
    trial's private scratch."""
    acts: dict[str, dict[str, Counter[str]]] = {}
    for event in events:
        name, who = _FIELDS.get(event.kind), (event.pack, *event.through)
        if name is None or _is_harmless(name, event.what, own):
            continue
        for pack in filter(None, who):
            acts.setdefault(pack, {}).setdefault(name, Counter())[event.what] += 1
    for done in acts.values():
        if "deletes" in done:
            done["deletes"] = _outermost(done["deletes"])
    for request in installs:
        acts.setdefault(request.pack, {})
    found = [_of(pack, done, [request for request in installs if request.pack == pack]) for pack, done in acts.items()]
    return tuple(sorted(found, key=lambda entry: (-entry.weight, entry.pack)))


def _outermost(paths: Counter[str]) -> Counter[str]:
    """Who deletes a folder deletes what is in it: one act."""
    kept = (path for path in paths if not any(str(parent) in paths for parent in PurePath(path).parents))
    return Counter(kept)


def _is_harmless(name: str, what: str, own: Sequence[str]) -> bool:
    if name == "connections":
        own = tuple(f"unix:{path}" for path in own)
        return bool(_LOOPBACK.fullmatch(what)) or what.startswith(own)
    return name in ("writes", "deletes") and what.startswith(tuple(own))


def _of(pack: str, done: dict[str, Counter[str]], installs: list[InstallRequest]) -> PackActs:
    counts = {name: len(entries) for name, entries in done.items()}
    weight = sum(_WEIGHTS[name] * min(count, 10) for name, count in counts.items()) + _WEIGHTS["installs"] * len(
        installs
    )
    shown = {name: tuple(sorted(entries)[:_SHOWN]) for name, entries in done.items()}
    return PackActs(pack=pack, installs=tuple(installs), counts=counts, weight=weight, **shown)
