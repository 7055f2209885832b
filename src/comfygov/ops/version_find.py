"""Which lock a command means, and what else is on this machine for it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ops import version_bundle
from comfygov.ports import fs, toml
from comfygov.truth import declaration
from comfygov.truth.home import find_root, is_home
from comfygov.versions import judging, lockfile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.state import Declaration
    from comfygov.model.version import VersionLock

_LOCKS = "lockfiles"


@dataclass(frozen=True)
class Found:
    """A judged lock, and the home that it lies in, if it lies in one."""

    lock: VersionLock
    path: Path
    home: Path | None
    is_bundled: bool = False

    def forget(self) -> None:
        """Take away what was unpacked for it."""
        if self.is_bundled:
            fs.remove_tree(self.path.parent)


def find(name: str | None, lock: str | None, home: str | None) -> Found:
    """With a `name` and a `lock`, the lock has to be that of this name. Raises `usage`, `not_found`, and what reading
    and judging raise."""
    if name is None and lock is None:
        raise GovError(Code.USAGE, "which version?", "gov version clone NAME, or --lock FILE")
    found = _read(name, lock, home)
    if lock is not None and name not in (None, found.lock.version_name):
        found.forget()
        message = f"{lock} is the version `{found.lock.version_name}`, not `{name}`"
        raise GovError(Code.USAGE, message, "leave out --lock or the name")
    return found


@contextmanager
def opened(name: str | None, lock: str | None, home: str | None) -> Iterator[Found]:
    """The same, for as long as the block runs: a bundle is unpacked once, and taken away at the end."""
    found = find(name, lock, home)
    try:
        yield found
    finally:
        found.forget()


def _read(name: str | None, lock: str | None, home: str | None) -> Found:
    path = Path(lock).expanduser().absolute() if lock is not None else _named(name or "", home)
    if path.is_file() and version_bundle.is_bundle(path):
        return _bundled(path)
    found = read_judged(path)
    root = path.parent.parent
    return Found(found, path, root if path.parent.name == _LOCKS and is_home(root) else None)


def _bundled(path: Path) -> Found:
    inside = version_bundle.opened(path)
    try:
        return Found(read_judged(inside), inside, None, is_bundled=True)
    except BaseException:
        fs.remove_tree(inside.parent)
        raise


def _named(name: str, home: str | None) -> Path:
    lockfile.refuse_bad_name(name)
    root = find_root(home)
    path = root / _LOCKS / lockfile.file_name(name)
    if not path.is_file():
        raise GovError(Code.NOT_FOUND, f"{root} has no version `{name}`", "gov version list, or --lock FILE")
    return path.absolute()


def locks_of(root: Path) -> list[Path]:
    return sorted((root / _LOCKS).glob("comfy-*.lock.json"))


def read_judged(path: Path) -> VersionLock:
    """A lock in which every word was judged."""
    lock = lockfile.read(path)
    judging.judge(path, lock)
    _judge_project(path, lock)
    _judge_models(path, lock)
    return lock


def _judge_project(path: Path, lock: VersionLock) -> None:
    """The project file must be one that comfygov writes, down to the byte, and about the same ComfyUI."""
    text = lock.python.pyproject
    try:
        declared = declaration.parse(text)
    except GovError as error:
        raise judging.bad(path, error.message) from error
    indexes = toml.loads(text)["tool"]["uv"].get("index", [])
    if declaration.render(declared, _pytorch_index(indexes, declared)) != text:
        raise judging.bad(path, "its pyproject has more than comfygov writes into one")
    pin = lock.comfyui
    if declared.comfyui != type(declared.comfyui)(pin.repo, pin.ref, pin.commit):
        raise judging.bad(path, "its pyproject names another ComfyUI than the lock")


def _pytorch_index(indexes: list[dict[str, str]], declared: Declaration) -> str:
    """Where the builds of torch come from, without the name of the build."""
    for build in (declared.torch_backend, *declared.torch_backends):
        name = f"pytorch-{build}" if declared.torch_backends else "pytorch"
        url = next((entry["url"] for entry in indexes if entry.get("name") == name), "")
        if build and url.endswith(f"/{build}"):
            return url.removesuffix(f"/{build}")
    return ""


def _judge_models(path: Path, lock: VersionLock) -> None:
    from comfygov.models import spec

    raw = tuple(msgspec.convert(msgspec.to_builtins(model), spec.RawEntry) for model in lock.models)
    entries = spec.entries(path, raw, Path("/models"), None)
    for model, entry in zip(lock.models, entries, strict=True):
        if entry.target_path != model.target_path:
            raise judging.bad(path, f"the model target `{model.target_path[:200]}` is written in an odd way")
