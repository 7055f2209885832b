"""A version for more than this machine: other platforms and builds of torch, beside exactly what runs here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import locked, record
from comfygov.errors import Code, GovError
from comfygov.model import builds as torch_builds
from comfygov.model.builds import DEFAULT_BUILD, LINUX
from comfygov.ops import locking
from comfygov.ops.context import work_directory
from comfygov.ops.version_capture import Captured, locked_python, with_own_wheels
from comfygov.ports import fs
from comfygov.resolve import torch_family
from comfygov.truth import declaration
from comfygov.versions import builds, lockfile, portable

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.model.version import LockedPython, VersionLock
    from comfygov.ops.context import Context

_WORK = "widen"


@dataclass(frozen=True)
class Reach:
    """What a version shall hold beside this machine; empty: what the settings say, else linux-x86_64."""

    platforms: tuple[str, ...] = ()
    torch_backends: tuple[str, ...] = ()


def refuse_odd(reach: Reach) -> None:
    for words, is_right, rule, option in (
        (reach.platforms, torch_builds.is_platform, torch_builds.PLATFORM_RULE, "--platform"),
        (reach.torch_backends, torch_builds.is_build, torch_builds.BUILD_RULE, "--torch-backend"),
    ):
        odd = [word for word in words if not is_right(word)]
        if odd:
            raise GovError(Code.USAGE, f"{option} `{odd[0][:80]}` is none", f"known: {rule}")


def widened(context: Context, captured: Captured, reach: Reach, known: VersionLock | None) -> Captured:
    """`captured` for all that `reach` names. What runs here stays as it is; only the rest is resolved, near to it.
    A `known` lock that reaches as far and holds this home is taken as it is: same state, same bytes.

    Raises NoSolution, and `no_solution` when what runs here would not be in it.
    """
    state = context.head_state()
    wanted = _declared(context, state.declared, reach)
    if wanted == state.declared:
        return captured
    if known is not None and _reaches(known, wanted) and holds(context, known.python, captured.lock.python):
        return dataclasses.replace(captured, lock=_with(captured.lock, known.python))
    directory = work_directory(context, _WORK)
    try:
        pyproject, uv_lock = _locked(context, directory, wanted, state.uv_lock)
        project = with_own_wheels(context, portable.portable(pyproject.decode(), uv_lock.decode()))
        python = locked_python(project, context.interpreter)
    finally:
        fs.remove_tree(directory)
    return dataclasses.replace(captured, lock=_with(captured.lock, python), local=project.local)


def _with(lock: VersionLock, python: LockedPython) -> VersionLock:
    return lockfile.sealed(msgspec.structs.replace(lock, python=python))


def _declared(context: Context, declared: Declaration, reach: Reach) -> Declaration:
    settings = context.config.python
    mine = tuple(filter(None, map(torch_builds.platform_of, declared.environments)))
    others = reach.platforms or settings.platforms or (LINUX,)
    carried = declared.torch_backends or ()
    wanted = (declared.torch_backend or DEFAULT_BUILD, *carried, *(reach.torch_backends or settings.torch_backends))
    return msgspec.structs.replace(
        declared,
        environments=torch_builds.markers((*mine, *others), torch_builds.floor_of(declared.environments)),
        torch_backend=torch_builds.chosen(wanted),
        torch_backends=torch_builds.several(wanted),
    )


def _reaches(known: VersionLock, wanted: Declaration) -> bool:
    python = known.python
    return python.platforms == wanted.environments and python.torch_backends == wanted.torch_backends


def _locked(context: Context, directory: Path, wanted: Declaration, uv_lock: bytes) -> tuple[bytes, bytes]:
    """Near to the lock of the home, and torch's family at one version in all builds: the pins only steer."""
    versions = torch_family.locked_versions(uv_lock.decode())
    pins = tuple(
        f"{name}=={versions[name].partition('+')[0]}" for name in declaration.PYTORCH_PACKAGES if name in versions
    )
    steered = msgspec.structs.replace(wanted, constraints=(*wanted.constraints, *pins))
    _, near = locking.lock(context, directory / "steered", steered, uv_lock)
    pyproject, found = locking.lock(context, directory, wanted, near)
    installed = _installed(context)
    problems = [
        *locked.mismatches(found, installed),
        *locked.other_builds(found, installed, locked.chosen_extras(pyproject), context.interpreter),
    ]
    if problems:
        raise GovError(
            Code.NO_SOLUTION,
            "a version for all these platforms and builds would not hold what runs here",
            "ask for fewer with --platform or --torch-backend, or bring the packages up to date with `gov tx run`",
            tuple(problems[:20]),
        )
    return pyproject, found


def _installed(context: Context) -> tuple[str, ...]:
    return record.freeze(context.generations.path(context.head_state().generation))


def holds(context: Context, wide: LockedPython, own: LockedPython) -> bool:
    """Whether what runs in this home is what `wide`, a lock for more than this, says for here: the same wishes, the
    same packages with the same sums, and the same build of torch."""
    mine, theirs = declaration.parse(own.pyproject), declaration.parse(wide.pyproject)
    build = own.torch_backend or mine.torch_backend or DEFAULT_BUILD
    same_wishes = msgspec.structs.replace(
        mine,
        environments=theirs.environments,
        torch_backends=theirs.torch_backends,
        torch_backend=theirs.torch_backend,
    )
    carried = wide.torch_backends or (theirs.torch_backend or DEFAULT_BUILD,)
    if same_wishes != theirs or not set(mine.environments) <= set(theirs.environments) or build not in carried:
        return False
    known = {(one.name, one.version, one.source): one.hashes.items() for one in wide.packages}
    if not all(
        one.hashes.items() <= known.get((one.name, one.version, one.source), {}.items()) for one in own.packages
    ):
        return False
    installed, uv_lock = _installed(context), wide.uv_lock.encode()
    extras = locked.chosen_extras(builds.with_build(wide.pyproject, build).encode())
    wrong = [
        *locked.mismatches(uv_lock, installed),
        *locked.other_builds(uv_lock, installed, extras, context.interpreter),
    ]
    return not wrong


def seen_through(context: Context, lock: VersionLock, own: VersionLock) -> VersionLock:
    """`own`, the lock of this home, as wide as `lock`, where `lock` holds it; else as it is."""
    if own.digest == lock.digest or not holds(context, lock.python, own.python):
        return own
    return _with(own, lock.python)
