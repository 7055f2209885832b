"""What is known of the packs on trial before anything of them has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.ops import locking
from comfygov.ports import toml
from comfygov.resolve import requirements
from comfygov.trial import reading, undeclared
from comfygov.trial.reading import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.ops.change import Change
    from comfygov.ports.git import Git
    from comfygov.trial.reading import Reading

_SHOWN = 50


def read(git: Git, change: Change, tree: Path) -> dict[str, Reading]:
    """Every pack on trial, in the private tree as it was just made."""
    return {pack.id: _read(git, tree / "custom_nodes" / pack.id) for pack in change.packs}


def _read(git: Git, folder: Path) -> Reading:
    """What is read of the files, and the bytecode that the pack itself brings: beside it there is ours."""
    found = reading.read(folder)
    if not folder.is_dir():
        return found
    names = git.read(["ls-files", "-z", "--recurse-submodules", "--", "*.pyc"], folder).split("\0")
    text = "compiled code, which runs in place of its source"
    more = [Finding(name, 0, "obfuscated", text) for name in names if "__pycache__" in name.split("/")]
    return msgspec.structs.replace(found, findings=(*found.findings, *more))


def findings(readings: dict[str, Reading]) -> tuple[str, ...]:
    """`file:line: what`, with the pack before it where there are several."""
    found = [f"{_of(name, readings)}{finding}" for name, entry in readings.items() for finding in entry.findings]
    return _bounded(found)


def undeclared_imports(
    change: Change,
    readings: dict[str, Reading],
    declared: Declaration,
    tree: Path,
    candidate: Path,
    uv_lock: bytes,
) -> tuple[str, ...]:
    """What packs import and do not declare, a line for each, for a gate."""
    groups = {pack.id: pack.plugin.group for pack in change.packs}
    owners, needed_by = record.owners(candidate), _needed_by(uv_lock)
    known = {path.stem for path in tree.iterdir()}
    common = (locking.COMFYUI_GROUP, locking.EXTRA_GROUP)
    found: list[str] = []
    for name, entry in readings.items():
        lines = (line for group in (groups[name], *common) for line in declared.groups.get(group, ()))
        names = {requirements.package_of(line) for line in lines}
        missing = undeclared.undeclared(entry, owners, names, needed_by, known)
        found += (f"{_of(name, readings)}{line}" for line in missing)
    return _bounded(found)


def _needed_by(uv_lock: bytes) -> dict[str, set[str]]:
    """Package -> the locked packages that ask for it."""
    found: dict[str, set[str]] = {}
    for package in toml.loads(uv_lock.decode()).get("package", []):
        if "virtual" not in package.get("source", {}):
            for dependency in package.get("dependencies", []):
                found.setdefault(dependency["name"], set()).add(package["name"])
    return found


def _of(name: str, readings: dict[str, Reading]) -> str:
    return f"{name}/" if len(readings) > 1 else ""


def _bounded(lines: list[str]) -> tuple[str, ...]:
    more = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"and {more} more") if more > 0 else tuple(lines)


def versions(freeze: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(name, version) of the lines of a freeze."""
    for line in freeze:
        name, _, rest = line.partition("==")
        yield name, rest.split(" @ ")[0]
