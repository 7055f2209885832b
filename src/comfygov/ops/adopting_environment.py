"""An environment that people have already, locked as it is: also where its packages do not fit each other, and where
no index has them."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import metadata, record, repacking
from comfygov.errors import Code, GovError
from comfygov.model import builds
from comfygov.model.state import Resolution
from comfygov.model.version import WHEELS
from comfygov.ops import locking
from comfygov.ops.adopting import AdoptionFinding
from comfygov.resolve import alternatives, requirements
from comfygov.resolve.torch_family import locked_versions
from comfygov.truth import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.requirements import Requirement

    from comfygov.model.state import Declaration
    from comfygov.ops.context import Context
    from comfygov.ports.uv import Interpreter

_ROUNDS = 40
_FOR_NOBODY = "python_version < '3'"
_REASON = "so it was in the environment that was adopted"
_NAME = r"`?([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)`?"
# uv's own words (0.11) for what an index does not have, or has as source only.
_NOT_THERE = tuple(
    re.compile(words.replace("NAME", _NAME))
    for words in (
        r"no versions? of NAME",
        r"NAME was not found",
        r"NAME(?:==\S+)? has no (?:usable |compatible )?wheels",
        r"[Oo]nly the following versions of NAME",
        r"[Oo]nly NAME[<>=!]+\S+ is available",
        r"distribution `?NAME(?:==\S+)?",
        r"[Bb]uilding source distributions for NAME is disabled",
        r"NAME(?:==\S+)? (?:is|was) (?:yanked|unavailable)",
    )
)


@dataclass
class Frozen:
    """An environment as a declaration. `wheels` are the packages that no index has."""

    venv: Path
    packages: dict[str, metadata.Installed]
    needs: metadata.Needs
    declared: Declaration
    wheels: set[str] = field(default_factory=set)
    findings: list[AdoptionFinding] = field(default_factory=list)

    def say(self, kind: str, subject: str, problem: str, hint: str = "") -> None:
        self.findings.append(AdoptionFinding(kind, subject, problem, hint))


def lock_as_it_is(context: Context, work: Path, declared: Declaration, venv: Path) -> tuple[bytes, bytes, Frozen]:
    """(pyproject, uv.lock, what was found) of exactly the packages of `venv`, under the groups of `declared`.

    Raises `no_solution` when not even its own versions, forced, make a lock.
    """
    frozen = _looked_at(context, declared, venv)
    _declare(frozen)
    oldest = metadata.oldest_python(frozen.packages.values(), context.interpreter.version)
    if oldest:
        here = f"{context.interpreter.system}-{context.interpreter.machine}"
        frozen.declared = msgspec.structs.replace(frozen.declared, environments=builds.markers((here,), oldest))
    for _ in range(_ROUNDS):
        frozen.declared = locking.with_settings(frozen.declared, context.config, context.interpreter)
        try:
            pyproject, uv_lock = _locked(context, work, frozen)
        except locking.NoSolution as problem:
            missing = _in_no_index(frozen, problem.uv_text)
            if not missing:
                raise _no_lock(venv, problem) from problem
            _pack(context, frozen, missing)
            continue
        _say_differences(frozen, uv_lock)
        return pyproject, uv_lock, frozen
    raise GovError(Code.NO_SOLUTION, f"too many packages of {venv} are in no index", "name one with --index-url")


def _looked_at(context: Context, declared: Declaration, venv: Path) -> Frozen:
    packages = metadata.installed(venv)
    frozen = Frozen(venv, {}, metadata.Needs((), {}), declared)
    for package in packages:
        if package.editable:
            problem = f"is installed from the folder {package.origin} (editable) and cannot be locked: it is left out"
            frozen.say("package", package.pin, problem, "build a wheel of it, and gov tx run --dep NAME")
    damage = record.check(venv)
    taken = list(_one_of_each(frozen, [package for package in packages if not package.editable], damage))
    frozen.packages = {package.name: package for package in taken}
    frozen.needs = metadata.Needs(taken, _markers(context.interpreter))
    for name in metadata.unowned(venv):
        frozen.say("file", name, "lies in site-packages, and no package has it in its RECORD: it is left out")
    for line in (line for line in damage if line.split(" ", 1)[0] in frozen.packages):
        frozen.say("file", line, "is not as its package was installed: the home has it as the package brings it")
    if _sees_system(venv):
        frozen.say("package", str(venv), "also sees the packages of the system's Python, which are left out")
    _pack(context, frozen, [package.name for package in taken if package.origin])
    _take_torch_backend(context, frozen)
    return frozen


def _one_of_each(frozen: Frozen, packages: list[metadata.Installed], damage: list[str]) -> Iterator[metadata.Installed]:
    """Of packages that overwrite each other's files the one whose files are there."""
    named = {package.name for package in packages}
    left_out: dict[str, str] = {}
    for there in alternatives.overlapping(named):
        whole = [name for name in there if not any(line.startswith(f"{name} ") for line in damage)]
        kept = alternatives.chosen(whole or there, (), ())
        left_out |= {name: kept for name in there if name != kept}
    for package in packages:
        if package.name not in left_out:
            yield package
            continue
        kept = left_out[package.name]
        problem = (
            f"and {kept} overwrite each other's files; the files that are there are those of {kept}: it is left out"
        )
        frozen.say("package", package.pin, problem)


def _markers(python: Interpreter) -> dict[str, str]:
    from packaging.markers import default_environment

    own = {key: str(value) for key, value in default_environment().items()}
    return {
        **own,
        "python_version": python.minor,
        "python_full_version": python.version,
        "implementation_version": python.version,
        "sys_platform": python.system,
        "platform_machine": python.machine,
        "platform_system": platform.system(),
    }


def _sees_system(venv: Path) -> bool:
    try:
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"(?im)^include-system-site-packages\s*=\s*true", text) is not None


def _take_torch_backend(context: Context, frozen: Frozen) -> None:
    """`torch==2.9.0+cu128` is on PyTorch's own index for cu128."""
    torch = frozen.packages.get("torch")
    build = torch.version.partition("+")[2] if torch and "torch" not in frozen.wheels else ""
    if re.fullmatch(r"cpu|cu\d{2,3}|rocm[\d.]+|xpu", build) and not context.config.python.torch_backends:
        _write_settings(context, {"torch_backends": [build]})


def _write_settings(context: Context, python: dict[str, object]) -> None:
    settings.update_config(context.home.config_file, {"python": dict(python)})
    context.home = type(context.home)(context.home.root, settings.read_config(context.home.config_file))


def _pack(context: Context, frozen: Frozen, names: Iterable[str]) -> None:
    """Make wheels of packages that no index has, and let the resolver find them in the home."""
    folder = context.home.root.absolute() / WHEELS
    for name in names:
        package = frozen.packages[name]
        wheel = repacking.repack(frozen.venv, package, folder)
        frozen.wheels.add(name)
        origin = f"was installed from {_safe(package.origin)}" if package.origin else "is in no index"
        frozen.say("package", package.pin, f"{origin}: a wheel was made of its files, {WHEELS}/{wheel.name}")
    links = context.config.python.find_links
    if frozen.wheels and str(folder) not in links:
        _write_settings(context, {"find_links": [*links, str(folder)]})


def _safe(origin: str) -> str:
    from comfygov.ports.source import without_credentials

    return without_credentials(origin)


def _declare(frozen: Frozen) -> None:
    """Groups hold what the environment meets; what packages need and do not have is forced to be as it is."""
    groups, asked = {}, []
    for group, lines in frozen.declared.groups.items():
        kept = [line for line in map(requirements.parse, lines) if line is not None and _is_met(frozen, group, line)]
        asked += kept
        groups[group] = tuple(map(_without_address, kept))
    reached = frozen.needs.reach(asked)
    own = sorted(frozen.packages.keys() - reached)
    parsed = [line for line in map(requirements.parse, own) if line is not None]
    frozen.needs.reach(parsed)
    groups[locking.EXTRA_GROUP] = tuple(own)
    frozen.declared = msgspec.structs.replace(
        frozen.declared,
        groups={name: lines for name, lines in groups.items() if lines or name != locking.EXTRA_GROUP},
        resolutions=_forced(frozen),
    )


def _without_address(line: Requirement) -> str:
    """A line `name @ URL` would be fetched and built; what is installed is what is locked."""
    if not line.url:
        return str(line)
    extras = f"[{','.join(sorted(line.extras))}]" if line.extras else ""
    return f"{line.name}{extras}" + (f"; {line.marker}" if line.marker else "")


def _is_met(frozen: Frozen, group: str, line: Requirement) -> bool:
    verdict = frozen.needs.verdict(line)
    if verdict in ("met", "idle"):
        return True
    name = requirements.package_of(str(line))
    there = f"has {frozen.packages[name].version}" if verdict == "other" else "does not have it"
    problem = f"asks for {line}, and the environment {there}: it stays as it is"
    frozen.say("requirement", group.removeprefix("node-"), problem, "gov tx run of that pack tries what it asks for")
    return False


def _forced(frozen: Frozen) -> tuple[Resolution, ...]:
    """What packages need of each other, and the environment does not hold, is not needed here."""
    found: dict[str, Resolution] = {}
    for name in sorted(frozen.packages):
        for line in frozen.needs.needs_of(name):
            verdict, other = frozen.needs.verdict(_bare(line)), requirements.package_of(str(line))
            if verdict == "missing":
                found[other] = Resolution(f"{other}; {_FOR_NOBODY}", forced=True, reason=f"not there, {_REASON}")
            elif verdict == "other":
                found[other] = Resolution(frozen.packages[other].pin, forced=True, reason=_REASON)
            if verdict in ("missing", "other"):
                there = "it is not there" if verdict == "missing" else f"{frozen.packages[other].version} is there"
                frozen.say("package", frozen.packages[name].pin, f"needs {line}, and {there}: it stays so")
    return tuple(found[name] for name in sorted(found))


def _bare(line: Requirement) -> Requirement:
    """The line without its marker, which was judged already (with its extra)."""
    import copy

    bare = copy.copy(line)
    bare.marker = None
    return bare


def _locked(context: Context, work: Path, frozen: Frozen) -> tuple[bytes, bytes]:
    """The declaration, steered to the versions that are there: they are no part of it."""
    pins = tuple(package.pin for package in frozen.packages.values())
    steering = msgspec.structs.replace(frozen.declared, constraints=(*frozen.declared.constraints, *pins))
    _, steered = locking.lock(context, work / "steered", steering, None)
    return locking.lock(context, work, frozen.declared, steered)


def _in_no_index(frozen: Frozen, words: str) -> list[str]:
    """Packages of the environment of which uv says that it does not find them."""
    said = " ".join(words.split())
    named = {requirements.package_of(name) for pattern in _NOT_THERE for name in pattern.findall(said)}
    return sorted(name for name in named if name in frozen.packages and name not in frozen.wheels)


def _no_lock(venv: Path, problem: locking.NoSolution) -> GovError:
    hint = "name the index that its packages came from with --index-url, or leave --venv out"
    return GovError(Code.NO_SOLUTION, f"the packages of {venv} could not be locked as they are", hint, problem.details)


def _say_differences(frozen: Frozen, uv_lock: bytes) -> None:
    locked = locked_versions(uv_lock.decode())
    for name, package in sorted(frozen.packages.items()):
        if locked.get(name) != package.version:
            frozen.say("package", package.pin, f"is locked as {locked.get(name, 'nothing')}")
    for name in sorted(locked.keys() - frozen.packages.keys()):
        if name != "comfy-env":
            frozen.say("package", f"{name}=={locked[name]}", "is in the lock and not in the environment")


def environment_of(path: str) -> Path:
    """The environment at `path`. Raises `not_found` when there is none."""
    venv = Path(path).expanduser().absolute()
    if not os.access(venv / "bin" / "python", os.X_OK):
        raise GovError(Code.NOT_FOUND, f"{venv} is no environment: it has no bin/python", "check --venv")
    return venv
