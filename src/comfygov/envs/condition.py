"""Is an environment what it was when it was sealed: its frame, its packages, and what nobody put there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.ports import clock, fs
from comfygov.ports.frame import frame_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

# What uv itself puts beside the packages: `uv venv` writes these two, RECORD names neither.
_FRAME_MODULES = frozenset({"_virtualenv.py", "_virtualenv.pth"})
_LOADED = (".py", ".pyc", ".pth", ".so", ".dylib")
_SHOWN = 5
_SETTLED_NS = 2_000_000_000


def damage(environment: Path, python: str, *, deep: bool = False) -> list[str]:
    """The frame, files that RECORD names and that are missing or of another size (with `deep`: of other
    content), and what lies there and belongs to no package."""
    problems = frame_problems(environment, python)
    problems += record.check(environment, deep_for=None if deep else frozenset())
    foreign = sorted(_foreign(environment))
    problems += [f"{name} belongs to no package" for name in foreign[:_SHOWN]]
    return problems + ([f"and {len(foreign) - _SHOWN} more such files"] if len(foreign) > _SHOWN else [])


def _foreign(environment: Path) -> Iterator[str]:
    """Files in site-packages that no RECORD names and that Python would load or obey. Data that a package
    writes beside its code while it runs is none."""
    site = str(record.site_packages(environment))
    known = inherited(environment)
    for folder, _, files in os.walk(site):
        if folder.endswith("/__pycache__"):
            continue
        for name in files:
            path = f"{folder}/{name}"
            if name.endswith(_LOADED) and path not in known:
                yield path.removeprefix(f"{site}/")


def inherited(environment: Path) -> set[str]:
    """The files below site-packages that a new environment may take over: those that RECORD names."""
    site = record.site_packages(environment)
    return {f"{site}/{name}" for name in (*record.named_files(environment), *_FRAME_MODULES)}


class Known(msgspec.Struct):
    """What was found in a sealed environment; it may be lost. `folders` is the mtime of each: a file that comes,
    goes or is replaced changes one."""

    sealed: tuple[int, int]
    folders: dict[str, int]
    problems: list[str]


class Conditions:
    """The verdicts on environments, remembered until a folder changes: 5 000 folders are looked at in the time
    in which 40 000 files are not. A write into a file in place changes no folder: only a closer look sees that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Too young to be remembered for others; who has just looked need not look again.
        self._young: dict[str, Known] = {}

    def problems(self, environment: Path, seal: Path, python: str) -> list[str]:
        """`damage` of a sealed environment, from memory while nothing was moved there."""
        known = self._load()
        stamp = _stamp(seal)
        entry = self._young.get(environment.name) or known.get(environment.name)
        if entry is not None and entry.sealed == stamp and _same(environment, entry.folders):
            return entry.problems
        folders = _folders(environment)
        found = damage(environment, python)
        self._young[environment.name] = Known(stamp, folders, found)
        if not _is_young(folders):
            self._save(environment, known, self._young[environment.name])
        return found

    def remember(self, environment: Path, seal: Path, problems: list[str]) -> None:
        """What a closer look found; it counts until a folder changes or the environment is built anew."""
        if not problems and _is_young({"": environment.stat().st_mtime_ns}):
            return
        folders = _folders(environment)
        found = Known(_stamp(seal), folders, problems)
        self._young[environment.name] = found
        if problems or not _is_young(folders):
            self._save(environment, self._load(), found)

    def _load(self) -> dict[str, Known]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Known])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _save(self, environment: Path, known: dict[str, Known], entry: Known) -> None:
        """Remember `entry` beside what is known of the environments that are still there."""
        there = {name: other for name, other in known.items() if environment.with_name(name).is_dir()}
        try:
            fs.write_atomic(self._path, msgspec.json.encode({**there, environment.name: entry}))
        except OSError:
            return  # a read-only or full home can still be looked at


def _stamp(seal: Path) -> tuple[int, int]:
    facts = seal.stat()
    return (facts.st_ino, facts.st_mtime_ns)


def _same(environment: Path, folders: dict[str, int]) -> bool:
    root = str(environment)
    try:
        return all(os.stat(f"{root}/{name}").st_mtime_ns == mtime for name, mtime in folders.items())  # noqa: PTH116
    except OSError:
        return False


def _is_young(folders: dict[str, int]) -> bool:
    """A folder that changed just now can change again within the same tick of the file system's clock."""
    return clock.wall_seconds() * 1e9 - max(folders.values(), default=0) < _SETTLED_NS


def _folders(environment: Path) -> dict[str, int]:
    """Relative path -> mtime of every folder but those of bytecode, which comes and goes."""
    root = str(environment)
    found: dict[str, int] = {}
    pending = [""]
    while pending:
        name = pending.pop()
        found[name] = os.stat(f"{root}/{name}").st_mtime_ns  # noqa: PTH116
        with os.scandir(f"{root}/{name}") as entries:
            pending += [
                f"{name}/{entry.name}" if name else entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__"
            ]
    return found
