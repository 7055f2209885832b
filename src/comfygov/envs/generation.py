"""Generations: sealed environments in `.venvs/ID`, never changed after the rename that seals them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.envs import condition, locked, record
from comfygov.errors import Code, GovError
from comfygov.ports import clock, faults, fs
from comfygov.ports.frame import frame_problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.ports.uv import Interpreter, Uv

SEAL_FILE = "comfygov-generation.json"
# uv's own lock must not be one inode in two environments; the seal belongs to one generation.
_NOT_LINKED = frozenset({".lock", SEAL_FILE})


class Seal(msgspec.Struct, frozen=True):
    """`comfygov-generation.json`: what a generation was built from, and the packages it must hold."""

    id: str
    sealed_at: str
    uv_version: str
    python: str
    packages: tuple[str, ...]
    schema_version: int = 1


def generation_id(
    uv_lock: bytes,
    python: Interpreter,
    project: Path,
    standing_in: dict[str, Path] | None = None,
    extras: tuple[str, ...] = (),
) -> str:
    """The digest of all that decides an environment's content.

    That is each locked package with its sources and hashes, what the project asks for, whichever group
    asks, and the extras that were chosen. Wheels in a local directory are locked without a hash (field notes
    on uv, section 10), so their bytes count too, read from where `standing_in` says that their folder is now.
    """
    import hashlib

    from comfygov.ports import toml

    document = toml.loads(uv_lock.decode())
    packages = document.pop("package", [])
    root: dict[str, Any] = next((package for package in packages if "virtual" in package.get("source", {})), {})
    asked = {msgspec.json.encode(entry, order="sorted") for group in _groups(root) for entry in group}
    local = [wheel["path"] for package in packages for wheel in package.get("wheels", []) if "path" in wheel]
    document.pop("manifest", None)
    facts = {
        "lock": document,
        "packages": [package for package in packages if package is not root],
        "asked": sorted(entry.decode() for entry in asked),
        "local": {path: _sha256(_now_at(project / path, standing_in or {})) for path in local},
        "python": [python.version, python.build, python.system, python.machine],
        **({"extras": sorted(extras)} if extras else {}),
    }
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:20]


def _groups(root: dict[str, Any]) -> list[list[Any]]:
    return [root.get("dependencies", []), *root.get("dev-dependencies", {}).values()]


def _now_at(path: Path, standing_in: dict[str, Path]) -> Path:
    return standing_in[str(path.parent)] / path.name if str(path.parent) in standing_in else path


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def _extras(project: Path) -> tuple[str, ...]:
    return locked.chosen_extras((project / "pyproject.toml").read_bytes())


def _refuse(problems: list[str]) -> None:
    if problems:
        raise GovError(
            Code.ENVIRONMENT_DAMAGED,
            "the new environment does not match what its packages say they installed",
            "clean uv's cache of that package (`uv cache clean NAME`), then run the command again",
            tuple(problems[:20]),
        )


class Generations:
    """The environments of one home."""

    def __init__(self, root: Path, memory: Path, uv: Callable[[], Uv]) -> None:
        """`uv` is asked for when something is to be built: looking needs none. `memory` is a file for
        verdicts on environments, which may be lost."""
        self.root = root
        self._conditions = condition.Conditions(memory)
        self._uv = uv
        self._just_sealed: set[str] = set()

    def path(self, generation: str) -> Path:
        return self.root / generation

    def exists(self, generation: str) -> bool:
        """Whether it is there with a seal that can be read."""
        try:
            self.seal_of(generation)
        except (OSError, msgspec.MsgspecError):
            return False
        return True

    def seal_of(self, generation: str) -> Seal:
        data = (self.root / generation / SEAL_FILE).read_bytes()
        return msgspec.json.decode(data, type=Seal)

    def python(self, generation: str) -> str:
        """The interpreter by its real path: what runs is never reached by a flip of the link."""
        return str(self.root.resolve() / generation / "bin" / "python")

    def stage(self, project: Path, target: Path, python: Interpreter, base: str | None) -> None:
        """Build an environment for the lock in `project` at `target`; a failure leaves nothing there."""
        try:
            self.begin(target, python, base)
            self.complete(project, target, python)
        except BaseException:
            fs.remove_tree(target)
            raise

    def begin(
        self, target: Path, python: Interpreter, base: str | None, given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """The start of a staging, which needs no lock yet: hardlinks to generation `base`, where there is one. Once it
        is `given_up`, no more of them are made."""
        fs.remove_tree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with fs.explained(target):
            if base is not None and self._is_usable(base, python):
                self._link_base(self.path(base), target, given_up)
            else:
                self._uv().make_venv(target, python.path)
        faults.point("generation.begun")

    def _is_usable(self, base: str, python: Interpreter) -> bool:
        """A base is copied, so damage to it would be copied too."""
        return self.is_sound(base) and self.seal_of(base).python == python.path

    def _link_base(self, base: Path, target: Path, given_up: Callable[[], bool]) -> None:
        """Hardlinks to what packages of `base` installed, and to nothing that was put there otherwise."""
        site, known = f"{record.site_packages(base)}/", condition.inherited(base)

        def wanted(path: str) -> bool:
            return not given_up() and (not path.startswith(site) or path in known or "/__pycache__/" in path)

        fs.hardlink_tree(base, target, skip=_NOT_LINKED, wanted=wanted)

    def complete(self, project: Path, target: Path, python: Interpreter) -> None:
        """Let uv make a begun staging exact, compile what is new, and check the result against RECORD: by
        content for what the base did not have, by size for the rest."""
        with fs.explained(target):
            new = self._install(project, target, python)
            problems = record.check(target, deep_for=new)
            if problems:
                # uv's cache shares its files with every environment: who wrote into one wrote into the cache.
                self._uv().forget(sorted({line.split(" ", 1)[0] for line in problems}))
                fs.remove_tree(target)
                self._uv().make_venv(target, python.path)
                problems = record.check(target, deep_for=self._install(project, target, python))
            uv_lock, installed = (project / "uv.lock").read_bytes(), record.freeze(target)
            problems += locked.mismatches(uv_lock, installed)
            problems += locked.other_builds(uv_lock, installed, _extras(project), python)
            _refuse(problems + frame_problems(target, python.path))

    def _install(self, project: Path, target: Path, python: Interpreter) -> frozenset[str]:
        """Let uv make `target` what the lock says; returns the names of the packages that are new there."""
        from comfygov.ports import bytecode

        known = set(record.freeze(target))
        self._uv().sync(project, target, python.path, _extras(project))
        faults.point("generation.synced")
        new = frozenset(line.split("==")[0] for line in set(record.freeze(target)) - known)
        if new:
            bytecode.compile_modules(python.path, sorted(record.files_of(target, new, ".py")))
        return new

    def seal(
        self,
        staged: Path,
        generation: str,
        python: Interpreter,
        *,
        anew: bool = False,
        in_unnamed_home: bool = False,
    ) -> None:
        """Check `staged` once more and rename it to its name: from now on it does not change. A damaged
        generation of that name, or with `anew` any, gives way to it.

        In a home that has no name yet, nobody else can have touched what `complete` has just checked, and the
        whole home waits for the disk before it gets its name.
        """
        if not anew and self.is_sound(generation):
            fs.remove_tree(staged)
            return
        _refuse(frame_problems(staged, python.path) if in_unnamed_home else condition.damage(staged, python.path))
        seal = Seal(generation, clock.now(), self._uv().version(), python.path, record.freeze(staged))
        aside = fs.beside(self.path(generation), "damaged")
        with fs.explained(staged):
            (staged / ".lock").unlink(missing_ok=True)  # uv lets everybody write it, and nobody installs here again
            fs.write_atomic(staged / SEAL_FILE, msgspec.json.format(msgspec.json.encode(seal)))
            if not in_unnamed_home:
                fs.flush_file_system(staged)  # uv does not wait for the disk; head must not name what is not there
            faults.point("generation.marked")
            self.root.mkdir(parents=True, exist_ok=True)
            fs.remove_tree(aside)
            if self.path(generation).exists():
                self.path(generation).rename(aside)
                faults.point("generation.aside")
            staged.rename(self.path(generation))
            fs.fsync_directory(self.root)
        faults.point("generation.sealed")
        if not in_unnamed_home:
            self._just_sealed.add(generation)
        self.remember(generation, [])
        fs.remove_tree(aside)

    def build(
        self, project: Path, generation: str, python: Interpreter, base: str | None, *, anew: bool = False
    ) -> None:
        """Make generation `generation` unless a sound one is there; a failure leaves what there was."""
        if not anew and self.is_sound(generation):
            return
        staging = fs.beside(self.path(generation), "staging")
        self.stage(project, staging, python, base)
        self.seal(staging, generation, python, anew=anew)

    def closely(self, generation: str, *, deep: bool = False) -> list[str]:
        """`problems`, but looked at anew and remembered; with `deep` contents are read too."""
        found = condition.damage(self.path(generation), self.seal_of(generation).python, deep=deep)
        if found:
            self.remember(generation, found)
        return [f"environment: {line}" for line in found]

    def doubt(self, generation: str) -> None:
        """Something that may write to it has run in it since this command sealed it."""
        self._just_sealed.discard(generation)

    def is_sound(self, generation: str) -> bool:
        return self.exists(generation) and not self.problems(generation)

    def remember(self, generation: str, problems: list[str]) -> None:
        """Keep what a closer look at a generation found."""
        path = self.path(generation)
        self._conditions.remember(path, path / SEAL_FILE, problems)

    def quick_problems(self, generation: str) -> list[str]:
        """Packages that are there and should not be, or should and are not: milliseconds."""
        if not self.exists(generation):
            return [f"the environment {generation} is not there"]
        path, seal = self.path(generation), self.seal_of(generation)
        found = record.difference(seal.packages, record.freeze(path)).lines()
        return [f"environment: {line}" for line in (*frame_problems(path, seal.python), *found)]

    def problems(self, generation: str) -> list[str]:
        """All that can be found without reading contents; what was found once is remembered until a folder of
        the environment changes."""
        quick = self.quick_problems(generation)
        if not self.exists(generation) or generation in self._just_sealed:
            return quick  # its files were looked at when this command sealed it
        path = self.path(generation)
        found = self._conditions.problems(path, path / SEAL_FILE, self.seal_of(generation).python)
        return list(dict.fromkeys((*quick, *(f"environment: {line}" for line in found))))
