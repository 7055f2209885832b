"""Which builds of torch a lock carries, and what `uv sync` needs to install one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.model.builds import DEFAULT_BUILD
from comfygov.model.names import canonical
from comfygov.ports import toml

if TYPE_CHECKING:
    from comfygov.model.version import LockedPython, VersionLock


def carried(lock: VersionLock) -> tuple[str, ...]:
    """The builds that one can choose from: `cpu`, `cuNNN`, `rocmN.N`, and `default` for the torch of the ordinary
    index. A lock that was not made for several has one."""
    return lock.python.torch_backends or (_only(lock.python),)


def _only(python: LockedPython) -> str:
    own = toml.loads(python.pyproject)["tool"]["comfygov"]
    return str(own.get("torch_backend") or DEFAULT_BUILD)


def choose(lock: VersionLock, wanted: str | None) -> str:
    """`wanted`, else the build of the home that the lock was made of. Raises `usage` for one that the lock has not."""
    found = carried(lock)
    if wanted is None:
        return lock.python.torch_backend if lock.python.torch_backend in found else found[0]
    if wanted not in found:
        raise GovError(
            Code.USAGE,
            f"the version {lock.version_name} has no torch build `{wanted[:40]}`: it carries {', '.join(found)}",
            "name one of these, or make the version again with `--torch-backend`",
        )
    return wanted


def sync_options(lock: VersionLock, torch_backend: str | None = None) -> tuple[str, ...]:
    """Words for `uv sync --frozen` on the lock's `python.pyproject` and `python.uv_lock`, that install everything
    with the build `torch_backend` (None: that of the lock's home): all groups, and the extra of the build.

    Raises `usage` for a build that the lock does not carry.
    """
    build = choose(lock, torch_backend)
    extra = ("--extra", canonical(build)) if lock.python.torch_backends else ()
    return ("--all-groups", "--no-install-project", *extra)


def with_build(pyproject: str, build: str) -> str:
    """`pyproject` with `build` as the chosen one; without any where `build` is empty. What carries no choice stays
    as it is."""
    import tomli_w

    document = toml.loads(pyproject)
    own = document["tool"]["comfygov"]
    if not own.get("torch_backends"):
        return pyproject
    resolutions = own.pop("resolutions", None)
    own.pop("torch_backend", None)
    document["tool"]["comfygov"] = {
        **own,
        **({"torch_backend": build} if build else {}),
        **({"resolutions": resolutions} if resolutions else {}),
    }
    start = "".join(line for line in pyproject.splitlines(keepends=True)[:1] if line.startswith("#"))
    return start + tomli_w.dumps(document)


def chosen(pyproject: str) -> str:
    """The build that a home's project file chooses."""
    own = toml.loads(pyproject)["tool"]["comfygov"]
    return str(own.get("torch_backend") or DEFAULT_BUILD)


def several(pyproject: str) -> tuple[str, ...]:
    """The builds that a project file lists; empty where there is no choice."""
    return tuple(toml.loads(pyproject)["tool"]["comfygov"].get("torch_backends", ()))
