"""From uv's words to what kind of conflict it is, and which lines may be behind it.

uv says a failed resolution in prose only (field notes on uv, section 8). What is read from it here are
*suspects* and the kind; what is claimed is what the resolver confirmed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.model.names import PROJECT_NAME, canonical
from comfygov.resolve.requirements import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from comfygov.model.state import Declaration
    from comfygov.model.tx import Form

CONSTRAINTS = "[python] constraints"
COMFYUI_GROUP = "comfyui"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


@dataclass(frozen=True)
class Line:
    """One requirement line: of a dependency group, or of the settings (`CONSTRAINTS`)."""

    group: str
    text: str

    @property
    def package(self) -> str:
        found = parse(self.text)
        return canonical(found.name) if found else ""

    def admits(self, version: str) -> bool | None:
        found = parse(self.text)
        return found.specifier.contains(version, prereleases=True) if found and not found.url and version else None


def lines_of(declared: Declaration) -> list[Line]:
    """Everything that is asked for, settings last: they are the last to be suspected."""
    named = [Line(group, text) for group, texts in sorted(declared.groups.items()) for text in texts]
    return named + [Line(CONSTRAINTS, text) for text in declared.constraints]


def suspects(uv_text: str, declared: Declaration) -> list[Line]:
    """The lines that uv's explanation speaks about."""
    groups = set(named_groups(uv_text))
    words = {canonical(word) for word in re.findall(_NAME, uv_text)}
    return [
        line
        for line in lines_of(declared)
        if line.package in words and (line.group in groups or not groups or _is_ours(line.group))
    ]


def _is_ours(group: str) -> bool:
    return group == CONSTRAINTS


def flat(uv_text: str) -> str:
    """uv wraps its words at 80 columns."""
    return re.sub(r"\s+", " ", uv_text)


def named_groups(uv_text: str) -> list[str]:
    return sorted(set(re.findall(rf"{PROJECT_NAME}:({_NAME})", uv_text)))


def form_of(uv_text: str, lines: Sequence[Line], core_packages: Sequence[str]) -> Form:
    """What kind of no it is. `uv_text` should be about `lines` alone; what one line alone cannot get is told by
    uv's words, what several cannot share by whose they are."""
    if len(lines) < 2:
        return _told(flat(uv_text))
    groups = {line.group for line in lines}
    if CONSTRAINTS in groups:
        held = {canonical(name) for name in core_packages}
        pinned = {line.package for line in lines if line.group == CONSTRAINTS}
        return "core_packages" if pinned & held else "own_wishes"
    if COMFYUI_GROUP in groups and len(groups) > 1:
        return "comfyui"
    return "two_packs" if len(groups) > 1 else "one_pack"


# The first that is found in uv's words says what one line alone cannot get.
_TOLD: tuple[tuple[Form, str], ...] = (
    (
        "requires_python",
        r"does not satisfy Python|requires Python|requested Python version|matching Python version tag",
    ),
    ("missing_package", r"was not found in the"),
    ("missing_file", r"Failed to download"),
    ("no_wheel", r"no usable wheels|compatible wheels|no wheels with|--no-build|source distributions is disabled"),
    ("missing_version", r"there (is|are) no versions? of|(is|are) available"),
)


def _told(words: str) -> Form:
    return next((form for form, pattern in _TOLD if re.search(pattern, words)), "no_solution")


_BLAMED = (
    rf"({_NAME}) was not found in the",
    rf"Failed to download(?: and build)? `({_NAME})",
    rf"no versions? of ({_NAME})",
    rf"({_NAME})\S* requires Python",
    rf"({_NAME})\S* has no (?:usable|wheels|\S+-compatible)",
    rf"versions of ({_NAME}) (?:have no|are available|cannot be used)",
    rf"only ({_NAME})\S* (?:is|are) available",
)


def blamed(uv_text: str, lines: Sequence[Line]) -> str:
    """The package that one line cannot get: the one that uv speaks of, else the line's own."""
    words = flat(uv_text)
    found = (re.search(pattern, words) for pattern in _BLAMED)
    names = (canonical(match[1]) for match in found if match)
    return next(names, "") or next((line.package for line in lines), "")


def contested(uv_text: str, lines: Sequence[Line]) -> str:
    """The package that the lines disagree about; empty when that is not understood.

    Where all are about one package it is that; else the one that two different things depend on in uv's words.
    """
    direct = {line.package for line in lines}
    if len(direct) == 1:
        return direct.pop()
    asked: dict[str, set[str]] = {}
    for who, package in _dependencies(uv_text):
        asked.setdefault(package, set()).add(who)
    # A line of the settings binds too, and uv does not say that anybody depends on it.
    bound = [line.package for line in lines if line.group == CONSTRAINTS and line.package in asked]
    several = sorted((name for name, who in asked.items() if len(who) > 1), key=lambda name: name not in direct)
    return next(iter([*bound, *several]), "")


def _dependencies(uv_text: str) -> Iterator[tuple[str, str]]:
    """(who, package) of every "X depends on Y" in uv's words; X is a package with its version, or a group."""
    pattern = rf"({_NAME}(?::{_NAME})?)[^ ,]*(?:,[^ ,]+)* depends? on ({_NAME})"
    for match in re.finditer(pattern, flat(uv_text)):
        yield match[1], canonical(match[2])


def reasons(uv_text: str) -> list[str]:
    """uv's sentences, one a line, with packs called by their names; its lines are wrapped at 80 columns."""
    told = re.split(r"^\s*(?:cause|hint): ", uv_text, flags=re.MULTILINE)[1:]
    text = re.sub(r"\s+", " ", "\n".join(told) or uv_text)
    text = text.replace(f"{PROJECT_NAME}:node-", "").replace(f"{PROJECT_NAME}:", "")
    return [line.strip() for line in re.split(r"(?<=\.) (?=And |Because )", text) if line.strip()]
