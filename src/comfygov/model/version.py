"""A version: everything of a state that another machine needs to make it again, and to prove that it did."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from comfygov.model.state import Baseline

VERSION_SCHEMA = 1
WHEELS = "wheels"
"""What stands in the project files of a lock for the folder that holds wheels of no index."""


class Part(Struct, frozen=True, omit_defaults=True):
    """Base of every part of a lock: what is empty is left out, so that the file stays readable."""


class PatchedFile(Part, frozen=True):
    """A file that is not as its commit has it. `content` is text, or base64 with `encoding`; None with `sha256`
    None says that the file is not there any more. `mode` is git's; a link holds its target."""

    path: str
    sha256: str | None = None
    mode: Literal["100644", "100755", "120000"] = "100644"
    content: str | None = None
    encoding: Literal["text", "base64"] = "text"


class LockedComfyUI(Part, frozen=True):
    """ComfyUI's code: `commit` and its `tree` hash, and the edits of the working tree as `patch`."""

    repo: str
    commit: str
    tree: str
    ref: str | None = None
    patch: tuple[PatchedFile, ...] = ()


class LockedNode(Part, frozen=True):
    """A pack. `promoted` packs are part of the environment, `enabled` ones are loaded too; `requirements` are the
    lines that were taken from it. A pack that comes from nowhere has a `repo` of `content:TREE` and `content`."""

    name: str
    repo: str
    commit: str
    tree: str
    ref: str | None = None
    enabled: bool = False
    promoted: bool = False
    requirements: tuple[str, ...] = ()
    patch: tuple[PatchedFile, ...] = ()
    content: tuple[PatchedFile, ...] = ()


class LockedPackage(Part, frozen=True):
    """A Python package. `hashes` are `sha256:…` by file name; `source` is an index, or `wheels` for a wheel that no
    index has: such files travel beside the lock."""

    name: str
    version: str
    source: str
    hashes: dict[str, str] = field(default_factory=dict)


class LockedPython(Part, frozen=True):
    """`version`, `platform` and `torch_backend` are those of where the lock was made, `platforms` where it holds.
    `torch_backends` are the builds of torch that it carries, empty where there is one. `pyproject` and `uv_lock` are
    the project files, free of this machine's paths and of the chosen build."""

    version: str
    requires: str
    platform: str
    platforms: tuple[str, ...]
    indexes: tuple[str, ...]
    packages: tuple[LockedPackage, ...]
    pyproject: str
    uv_lock: str
    torch_backends: tuple[str, ...] = ()
    torch_backend: str = ""


class LockedModel(Part, frozen=True):
    """A model file: `target_path` starts at the models folder, `checksum` is `sha256:…`, `size` in bytes."""

    name: str
    target_path: str
    checksum: str
    size: int | None = None
    sources: tuple[str, ...] = ()


class VersionLock(Part, frozen=True):
    """`lockfiles/comfy-NAME.lock.json`. The same state gives the same bytes, and on every machine the same `digest`:
    sha256 of all but the name, what only says where the lock was made (`python.version`, `python.platform`,
    `python.torch_backend`), what the boot showed (`expects`), and contents whose sums are there."""

    schema_version: int
    version_name: str
    digest: str
    comfyui: LockedComfyUI
    python: LockedPython
    custom_nodes: tuple[LockedNode, ...] = ()
    models: tuple[LockedModel, ...] = ()
    expects: Baseline = field(default_factory=Baseline)


class VersionDifference(Struct, frozen=True):
    """One point in which two versions differ; `before` or `after` is None where there is nothing."""

    kind: Literal["comfyui", "node", "package", "model", "python", "project"]
    name: str
    before: str | None
    after: str | None
