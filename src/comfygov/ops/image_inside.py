"""Is an image what its lock says: the check that runs inside."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.delivery.image import gittree, sums
from comfygov.envs import condition, record
from comfygov.errors import Code, GovError
from comfygov.model.image import ROOT, CodeManifest, ImageRecord
from comfygov.model.names import canonical
from comfygov.ops import image_code, image_runtime
from comfygov.ports.uv import Uv
from comfygov.resolve import torch_family
from comfygov.versions import lockfile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.version import VersionLock


class ImageChecked(msgspec.Struct, frozen=True):
    """What an image says of itself: the digest of the lock in it, every point in which its files are not that, and the
    base that its record names."""

    version: str
    digest: str
    files: int
    packages: int
    models: int
    problems: tuple[str, ...]
    base: str = ""


def read_record(root: Path) -> ImageRecord:
    try:
        return msgspec.json.decode((root / "image.json").read_bytes(), type=ImageRecord)
    except FileNotFoundError as error:
        raise GovError(
            Code.NOT_FOUND, f"there is no {root}/image.json: this is no image of comfygov", "gov image verify IMAGE"
        ) from error


def check_self(root: Path = Path(ROOT)) -> ImageChecked:
    """Hold the files of the image against the lock in it: code by git's own sums, packages by RECORD and by the
    lock, models by sha256."""
    found = read_record(root)
    lock = lockfile.read(root / "version.lock.json")
    manifest = msgspec.json.decode((root / "code.json").read_bytes(), type=CodeManifest)
    installed = [f"{name}=={version}" for name, version, _ in record.dist_infos(root / "env")]
    problems = [
        *_texts(root, found, lock, manifest),
        *_codes(root, lock, manifest),
        *_packages(root, found, lock, installed),
    ]
    if found.models:
        problems += _models(lock, root / "models")
    return ImageChecked(
        lock.version_name,
        lock.digest,
        sum(len(tree.entries) for trees in manifest.codes.values() for tree in trees),
        len(installed),
        len(lock.models) if found.models else 0,
        tuple(problems),
        found.base,
    )


def _texts(root: Path, found: ImageRecord, lock: VersionLock, manifest: CodeManifest) -> Iterator[str]:
    if found.digest != lock.digest:
        yield f"image.json is about {found.digest}, the lock about {lock.digest}"
    written = {
        "runtime.json": image_runtime.runtime(lock, found, manifest),
        "extra_model_paths.yaml": image_runtime.model_paths(lock).encode(),
    }
    for name, data in written.items():
        if (root / name).read_bytes() != data:
            yield f"{name} is not what the lock says"


def _codes(root: Path, lock: VersionLock, manifest: CodeManifest) -> Iterator[str]:
    codes = dict(image_code.codes(lock))
    if manifest.codes.keys() != codes.keys():
        yield f"code.json is about {', '.join(manifest.codes)}, the lock about {', '.join(codes)}"
        return
    packs = frozenset(f"custom_nodes/{name}" for name in codes if name != image_code.COMFYUI)
    for name, code in codes.items():
        trees = manifest.codes[name]
        is_comfyui = name == image_code.COMFYUI
        folder = root / "ComfyUI" if is_comfyui else root / image_code.target_of(name)
        leave = packs if is_comfyui else frozenset()
        lines = [*gittree.unproven(trees, code.tree), *image_code.differences(folder, name, code, trees, leave)]
        yield from (f"{name}: {line}" for line in lines)


def _packages(root: Path, found: ImageRecord, lock: VersionLock, installed: list[str]) -> Iterator[str]:
    environment = root / "env"
    wanted = _wanted(lock, found)
    yield from (f"the package {name} is not installed" for name in sorted(wanted - set(installed)))
    yield from (f"the package {name} is not one of the lock" for name in sorted(set(installed) - wanted))
    yield from condition.damage(environment, os.path.realpath(environment / "bin" / "python"), deep=True)


def _wanted(lock: VersionLock, found: ImageRecord) -> set[str]:
    """`name==version` of what the lock installs here, as uv itself reads it."""
    from packaging.requirements import Requirement

    with tempfile.TemporaryDirectory() as place:
        project = Path(place)
        (project / "pyproject.toml").write_text(lock.python.pyproject, encoding="utf-8")
        (project / "uv.lock").write_text(lock.python.uv_lock, encoding="utf-8")
        uv = Uv()
        uv.offline = True
        lines = uv.export(project, image_runtime.torch_extras(lock, found.torch_backend), pinned=True)
    named = [Requirement(line) for line in lines.splitlines() if line and not line.startswith("#")]
    here = [one for one in named if one.marker is None or one.marker.evaluate()]
    versions = torch_family.locked_versions(lock.python.uv_lock)
    return {f"{canonical(one.name)}{one.specifier or '==' + versions.get(one.name, '')}" for one in here}


def _models(lock: VersionLock, folder: Path) -> Iterator[str]:
    for model in lock.models:
        path = folder / model.target_path
        if not path.is_file():
            yield f"the model {model.target_path} is missing"
        elif f"sha256:{sums.of_file(path)}" != model.checksum:
            yield f"the model {model.target_path} is not what the lock says"
