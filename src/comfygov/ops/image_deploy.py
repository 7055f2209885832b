"""`gov image deploy-files`: what RunPod or Kubernetes needs to run a version's image."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.delivery.image import deploy, packages
from comfygov.delivery.image import engine as engines
from comfygov.errors import Code, GovError
from comfygov.ops import image_runtime, version_find
from comfygov.ops.image_context import refuse_filled, sweep
from comfygov.ports import fs
from comfygov.ports.uv import Uv

if TYPE_CHECKING:
    from comfygov.model.image import Target, TorchBuild
    from comfygov.model.version import VersionLock
    from comfygov.ops.version_find import Found


class DeployRequest(msgspec.Struct, frozen=True):
    """`image` is the name in its registry; `with_models` says that the models of the lock are in it."""

    target: Target
    output: str
    image: str
    name: str | None = None
    lock: str | None = None
    home: str | None = None
    torch_backend: str | None = None
    with_models: bool = False
    workers: int = 3
    namespace: str = "default"


class DeployFiles(msgspec.Struct, frozen=True):
    path: str
    files: tuple[str, ...]
    image: str
    version: str
    digest: str


def write(request: DeployRequest) -> DeployFiles:
    """Raises GovError before anything is written, or leaves no folder."""
    engines.refuse_odd_reference(request.image)
    if len(request.namespace) > 63 or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", request.namespace):
        raise GovError(Code.USAGE, f"`{request.namespace[:80]}` is no namespace", "lower-case letters, digits, `-`")
    target = Path(request.output).expanduser().absolute()
    refuse_filled(target)
    with version_find.opened(request.name, request.lock, request.home) as found:
        wish = _wish(request, found)
    files = _texts(request.target, wish)
    staging = fs.beside(target, "deploy")
    with fs.explained(target):
        sweep(target)
        try:
            fs.remove_tree(staging)
            staging.mkdir(parents=True)
            for name, text in files.items():
                (staging / name).write_text(text, encoding="utf-8")
            if target.is_dir():
                target.rmdir()
            staging.rename(target)
        finally:
            fs.remove_tree(staging)
    return DeployFiles(str(target), tuple(files), request.image, found.lock.version_name, found.lock.digest)


def _wish(request: DeployRequest, found: Found) -> deploy.Wish:
    lock = found.lock
    torch = torch_of(lock, request.torch_backend)
    return deploy.Wish(
        name=lock.version_name,
        image=request.image,
        digest=lock.digest,
        cuda=torch.cuda if torch else "",
        rocm=torch.rocm if torch else "",
        model_bytes=sum(model.size or 0 for model in lock.models),
        models_are_inside=request.with_models,
        workers=request.workers,
        namespace=request.namespace,
    )


def torch_of(lock: VersionLock, torch_backend: str | None) -> TorchBuild | None:
    """The torch that an image of this version has."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "pyproject.toml").write_text(lock.python.pyproject, encoding="utf-8")
        (Path(place) / "uv.lock").write_text(lock.python.uv_lock, encoding="utf-8")
        lines = Uv().export(Path(place), image_runtime.torch_extras(lock, torch_backend), pinned=True).splitlines()
    names = {line.partition("==")[0]: line.partition("==")[2].partition(";")[0].strip() for line in lines}
    document: dict[str, Any] = {"packages": [{"name": name, "version": text} for name, text in names.items() if text]}
    return packages.torch_build(document)


def _texts(target: Target, wish: deploy.Wish) -> dict[str, str]:
    if target == "runpod":
        return {
            name: msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"
            for name, content in deploy.runpod(wish).items()
        }
    import yaml

    return {
        name: yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        for name, content in deploy.kubernetes(wish).items()
    }
