"""Packages that overwrite each other's files: one environment must hold only one of each family.

opencv's four builds all install `cv2` (opencv-python, README, "Installation and Usage"); onnxruntime's builds
all install `onnxruntime` (its install page says to keep one). pip installs them over each other without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.model.names import canonical
from comfygov.resolve.requirements import parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from comfygov.model.state import Declaration

# Each family from what holds most to what holds least; a headless build needs no display libraries.
FAMILIES = (
    ("opencv-contrib-python-headless", "opencv-contrib-python", "opencv-python-headless", "opencv-python"),
    ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime"),
)
GROUP = "alternatives"


def overlapping(locked: Collection[str]) -> Iterator[tuple[str, ...]]:
    """The members of each family of which more than one would be installed."""
    for family in FAMILIES:
        there = tuple(name for name in family if name in locked)
        if len(there) > 1:
            yield there


def chosen(there: Sequence[str], keep: Sequence[str], production: Collection[str]) -> str:
    """Which one stays: what `policy.keep` names, else one that holds all that the others do, production's first.

    `opencv-contrib-*` holds all of `opencv-python*`, `onnxruntime-gpu` all of `onnxruntime`; the plain builds of
    opencv hold the same modules as each other.
    """
    family = next(names for names in FAMILIES if there[0] in names)
    named = [canonical(name) for name in keep if canonical(name) in family]
    if named:
        return named[0]
    full = [name for name in there if "contrib" in name or name.endswith("-gpu")] or list(there)
    return next((name for name in full if name in production), full[0])


def with_one(declared: Declaration, there: Sequence[str], kept: str) -> Declaration:
    """`declared` with only `kept` of a family; what was asked of the others holds for it too."""
    others = [name for name in there if name != kept]
    wanted = {f"{kept}{spec}" for spec in _asked_of(declared, others)} or {kept}
    groups = {**declared.groups, GROUP: tuple(sorted({*declared.groups.get(GROUP, ()), *wanted}))}
    exclude = tuple(sorted({*declared.exclude, *others}))
    return msgspec.structs.replace(declared, groups=groups, exclude=exclude)


def undone(declared: Declaration, exclude: Collection[str]) -> Declaration:
    """`declared` as it was before one of a family was chosen; `exclude` is what the settings leave out."""
    groups = {name: lines for name, lines in declared.groups.items() if name != GROUP}
    members = {name for family in FAMILIES for name in family} - set(exclude)
    left = tuple(name for name in declared.exclude if name not in members)
    return msgspec.structs.replace(declared, groups=groups, exclude=left)


def _asked_of(declared: Declaration, names: Collection[str]) -> Iterator[str]:
    for lines in declared.groups.values():
        for line in lines:
            found = parse(line)
            if found and canonical(found.name) in names:
                yield f"{found.specifier}{f' ; {found.marker}' if found.marker else ''}"
