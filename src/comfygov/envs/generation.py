"""Generations: sealed environments in `.venvs/ID`, never changed after the rename that seals them."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from comfygov.envs import record
from comfygov.errors import Code, GovError
from comfygov.ports import clock, fs
from comfygov.ports.uv import Interpreter, Uv

SEAL_FILE = "comfygov-generation.json"
# uv's own lock must not be one inode in two environments; the seal belongs to one generation.
_NOT_LINKED = frozenset({".lock", SEAL_FILE})
_LOCAL_WHEEL = re.compile(r'\{ path = "(?P<path>[^"]+)"')


class Seal(msgspec.Struct, frozen=True):
    """`comfygov-generation.json`: what a generation was built from, and the packages it must hold."""

    id: str
    sealed_at: str
    uv_version: str
    python: str
    packages: tuple[str, ...]
    schema_version: int = 1


@dataclass(frozen=True)
class Project:
    """A directory with the pyproject.toml and uv.lock that an environment is built from."""

    directory: Path
    uv_lock: bytes


def generation_id(uv_lock: bytes, python: Interpreter, project: Path) -> str:
    """The digest of all that decides an environment's content.

    uv.lock covers versions, hashes, groups, indexes and markers. Wheels in a local directory are locked
    without a hash (field notes on uv, section 10), so their bytes count too.
    """
    digest = hashlib.sha256(uv_lock)
    for match in sorted(set(_LOCAL_WHEEL.findall(uv_lock.decode()))):
        wheel = project / match
        digest.update(hashlib.sha256(wheel.read_bytes()).digest() if wheel.is_file() else b"missing")
    digest.update(f"{python.version} {python.build} {python.system} {python.machine}".encode())
    return digest.hexdigest()[:20]


class Generations:
    """The environments of one home."""

    def __init__(self, root: Path, uv: Uv) -> None:
        self.root = root
        self._uv = uv

    def path(self, generation: str) -> Path:
        return self.root / generation

    def exists(self, generation: str) -> bool:
        return (self.root / generation / SEAL_FILE).is_file()

    def seal_of(self, generation: str) -> Seal:
        data = (self.root / generation / SEAL_FILE).read_bytes()
        return msgspec.json.decode(data, type=Seal)

    def python(self, generation: str) -> str:
        """The interpreter by its real path: what runs is never reached by a flip of the link."""
        return str(self.root.resolve() / generation / "bin" / "python")

    def stage(self, project: Path, target: Path, python: Interpreter, base: str | None) -> None:
        """Build at `target`: hardlinks to generation `base` where there is one, then uv makes it exact.

        Fresh packages get bytecode at once. The result is checked against RECORD: by content for what
        `base` did not have, by size for the rest. A failure leaves nothing at `target`.
        """
        fs.remove_tree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fs.explained(target):
                known = self._start_from(target, python, base)
                self._uv.sync(project, target)
                new = frozenset(line.split("==")[0] for line in set(record.freeze(target)) - known)
                self._refuse_damage(target, new)
        except BaseException:
            fs.remove_tree(target)
            raise

    def _start_from(self, target: Path, python: Interpreter, base: str | None) -> set[str]:
        if base is None or not self.exists(base) or self.seal_of(base).python != python.path:
            self._uv.make_venv(target, python.path)
            return set()
        fs.hardlink_tree(self.path(base), target, skip=_NOT_LINKED)
        return set(record.freeze(target))

    def _refuse_damage(self, target: Path, deep_for: frozenset[str]) -> None:
        problems = record.check(target, deep_for=deep_for)
        if problems:
            raise GovError(
                Code.ENVIRONMENT_DAMAGED,
                "the new environment does not match what its packages say they installed",
                "clean uv's cache of that package (`uv cache clean NAME`), then run the command again",
                tuple(problems[:20]),
            )

    def seal(self, staged: Path, generation: str, python: Interpreter) -> None:
        """Check `staged` once more and rename it to its name: from now on it does not change."""
        if self.exists(generation):
            fs.remove_tree(staged)
            return
        self._refuse_damage(staged, frozenset())
        seal = Seal(generation, clock.now(), self._uv.version(), python.path, record.freeze(staged))
        with fs.explained(staged):
            fs.write_atomic(staged / SEAL_FILE, msgspec.json.format(msgspec.json.encode(seal)))
            fs.remove_tree(self.path(generation))
            self.root.mkdir(parents=True, exist_ok=True)
            staged.rename(self.path(generation))
            fs.fsync_directory(self.root)

    def build(self, project: Path, generation: str, python: Interpreter, base: str | None) -> None:
        """Make generation `generation` unless it is there; an unsealed rest of a killed build is remade."""
        if self.exists(generation):
            return
        staging = self.root / f".{generation}.{os.getpid()}.staging"
        self.stage(project, staging, python, base)
        self.seal(staged=staging, generation=generation, python=python)

    def quick_problems(self, generation: str) -> list[str]:
        """Packages that are there and should not be, or should and are not: milliseconds."""
        if not self.exists(generation):
            return [f"the environment {generation} is not there"]
        found = record.difference(self.seal_of(generation).packages, record.freeze(self.path(generation)))
        return [f"environment: {line}" for line in found.lines()]
