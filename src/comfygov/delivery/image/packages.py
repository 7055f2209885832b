"""The packages of a lock as `pylock.toml` files (PEP 751): torch with all that it needs, and all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from comfygov.model.image import TorchBuild
from comfygov.ports import toml

if TYPE_CHECKING:
    from collections.abc import Iterable

TORCH = ("torch", "torchvision", "torchaudio")
_CUDA_RUNTIMES = ("cuda-toolkit", "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12")


def portable(pylock: str) -> dict[str, Any]:
    """A `pylock.toml` that uv exported, in which a wheel of this machine (`file:`) is named by `wheels/FILE`."""
    document: dict[str, Any] = toml.loads(pylock)
    for package in document.get("packages", []):
        for file in _files(package):
            url = str(file.get("url", ""))
            if url.startswith("file:"):
                del file["url"]
                file["path"] = f"wheels/{unquote(url.rpartition('/')[2])}"
                package.pop("index", None)
    return document


def _files(package: dict[str, Any]) -> list[dict[str, Any]]:
    return [*package.get("wheels", []), *(package[kind] for kind in ("sdist", "archive") if kind in package)]


def only(document: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The part of a pylock that is about these packages."""
    wanted = set(names)
    return {**document, "packages": [one for one in document.get("packages", []) if one["name"] in wanted]}


def render(document: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(document)


def local_wheels(document: dict[str, Any]) -> list[str]:
    """File names of the wheels that travel with it."""
    paths = (str(file.get("path", "")) for package in document.get("packages", []) for file in _files(package))
    return sorted({path.removeprefix("wheels/") for path in paths if path})


def torch_family(uv_lock: str) -> frozenset[str]:
    """torch, torchvision, torchaudio and all that they need: what is large and changes seldom."""
    needs: dict[str, set[str]] = {}
    for package in toml.loads(uv_lock).get("package", []):
        optional = [one for extra in package.get("optional-dependencies", {}).values() for one in extra]
        found = {one["name"] for one in (*package.get("dependencies", []), *optional)}
        needs.setdefault(package["name"], set()).update(found)
    family = set(TORCH) & needs.keys()
    fresh = set(family)
    while fresh:
        fresh = {name for one in fresh for name in needs.get(one, ())} - family
        family |= fresh
    return frozenset(family)


def torch_build(document: dict[str, Any]) -> TorchBuild | None:
    """Which torch it is and the CUDA or ROCm that it was built with: by its local version, else by the CUDA runtime
    beside it."""
    versions = {one["name"]: str(one.get("version", "")) for one in document.get("packages", [])}
    torch = versions.get("torch")
    if not torch:
        return None
    local = torch.partition("+")[2]
    match = re.fullmatch(r"cu(\d+)(\d)", local)
    if match:
        return TorchBuild(torch, f"{match[1]}.{match[2]}")
    if local.startswith("rocm"):
        return TorchBuild(torch, rocm=local.removeprefix("rocm"))
    runtime = "" if local else next((versions[name] for name in _CUDA_RUNTIMES if name in versions), "")
    return TorchBuild(torch, ".".join(runtime.split(".")[:2]))
