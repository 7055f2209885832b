"""`gov version create`: production under a name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ops import version_wheels, version_widen
from comfygov.ops.context import changing
from comfygov.ops.version_capture import Captured, VersionFinding, capture
from comfygov.ops.version_find import read_judged
from comfygov.ports import fs
from comfygov.ports.source import without_credentials
from comfygov.versions import lockfile

if TYPE_CHECKING:
    from comfygov.model.version import VersionLock
    from comfygov.ops.context import Context


class CreateRequest(msgspec.Struct, frozen=True):
    """`output` is another place for the file than the home's `lockfiles/`. `platforms` and `torch_backends` are what it
    shall hold beside this machine; empty: what the settings say, else linux-x86_64."""

    name: str
    output: str | None = None
    overwrite: bool = False
    pretty: bool = True
    platforms: tuple[str, ...] = ()
    torch_backends: tuple[str, ...] = ()


class Created(msgspec.Struct, frozen=True):
    """`findings` name what is not in the version, or depends on this machine."""

    name: str
    path: str
    digest: str
    nodes: int
    packages: int
    models: int
    unchanged: bool
    findings: tuple[VersionFinding, ...]


def create(context: Context, request: CreateRequest) -> Created:
    """Raises `drift` when the home is not what head says, `already_exists` for a name that means another state."""
    lockfile.refuse_bad_name(request.name)
    path = Path(request.output).expanduser().absolute() if request.output else place_of(context, request.name)
    reach = version_widen.Reach(request.platforms, request.torch_backends)
    version_widen.refuse_odd(reach)
    with changing(context):
        captured = version_widen.widened(context, capture(context, request.name), reach, _known(path))
    return write(captured, path, request)


def _known(path: Path) -> VersionLock | None:
    """The version that is there under this name, if one is that can be used."""
    try:
        return read_judged(path) if path.is_file() else None
    except GovError:
        return None


def place_of(context: Context, name: str) -> Path:
    return context.home.root.absolute() / "lockfiles" / lockfile.file_name(name)


def write(captured: Captured, path: Path, request: CreateRequest) -> Created:
    """Keep the wheels that travel beside the lock, then the lock itself."""
    lock = captured.lock
    _refuse_secrets(lock)
    data = lockfile.encode(lock, pretty=request.pretty)
    if path.exists() and not request.overwrite and path.read_bytes() != data:
        _refuse_other(path, lock)
    version_wheels.keep(lock, captured.local)
    with fs.explained(path):
        changed = fs.write_if_changed(path, data)
    counts = (len(lock.custom_nodes), len(lock.python.packages), len(lock.models))
    return Created(lock.version_name, str(path), lock.digest, *counts, not changed, captured.findings)


_USER_PART = re.compile(r"([A-Za-z0-9.+-]*https?)://([^/\s\"'@]*)@")


def _refuse_secrets(lock: VersionLock) -> None:
    """A lock is for others: an address with a password or token in it may be in none."""
    found = _USER_PART.search(lock.python.pyproject) or _USER_PART.search(lock.python.uv_lock)
    if found:
        rest = lock.python.pyproject if found.string == lock.python.pyproject else lock.python.uv_lock
        address = without_credentials(rest[found.start() : found.start() + 300].split('"')[0])
        raise GovError(
            Code.WRONG_STATE,
            f"the version would hold the credentials of {address}",
            "give the address without them, and put them into ~/.netrc, which uv reads",
        )


def _refuse_other(path: Path, lock: VersionLock) -> None:
    try:
        known = lockfile.read(path).digest
    except GovError:
        known = "a damaged one"
    if known != lock.digest:
        raise GovError(
            Code.ALREADY_EXISTS,
            f"{path} is another state ({known[:17]}…) under this name",
            "give another name, or say --overwrite",
        )
