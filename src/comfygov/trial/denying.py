"""What must not run here: the shipped list of known harm, and what `[policy] deny` adds to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from comfygov.model import known_bad
from comfygov.model.names import canonical, id_from_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SPEC = re.compile(r"([A-Za-z0-9][\w.-]*)\s*([=<>!~].*)")


def packs(named: Sequence[tuple[str, str]], deny: Sequence[str]) -> Iterator[str]:
    """Why a pack (id, source) must not run, a line for each reason."""
    for name, source in named:
        names = {canonical(name), canonical(id_from_source(source))}
        for bad in known_bad.PACKS:
            if canonical(bad.name) in names:
                yield f"{bad.name}: {bad.why}"
        for bad in known_bad.OWNERS:
            if f"/{bad.name.lower()}/" in source.lower().replace(":", "/"):
                yield f"{bad.name}: {bad.why}"
        yield from (entry for entry in deny if canonical(entry) in names or entry.lower() == source.lower())


def packages(there: Mapping[str, str], new: frozenset[str], deny: Sequence[str]) -> Iterator[str]:
    """Why packages (name -> version) must not be there. An entry of the home that names no version is about what is
    `new`; every other is about whatever is there."""
    for bad in known_bad.PACKAGES:
        version = there.get(canonical(bad.name))
        if version is not None and (not bad.versions or version in bad.versions):
            yield f"{bad.name} {version}: {bad.why}"
    for entry in deny:
        match = _SPEC.fullmatch(entry)
        name = canonical(match[1] if match else entry)
        if name in new if match is None else name in there and _admits(match[2], there[name]):
            yield entry


def _admits(specifier: str, version: str) -> bool:
    """Raises ValueError for what is no version specifier: settings are checked when they are read."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)
