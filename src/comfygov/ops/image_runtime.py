"""What the handler in an image is told: where ComfyUI is, which packs it loads, where models lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.model.delivery import Runtime
from comfygov.model.image import ROOT, VOLUMES
from comfygov.truth.commit import MODEL_FOLDERS, model_paths_text
from comfygov.versions import builds

if TYPE_CHECKING:
    from comfygov.model.image import CodeManifest, ImageRecord
    from comfygov.model.version import VersionLock

BAKED = f"{ROOT}/models"
"""Where models that were baked in lie: no volume hides them."""
_SHIPPED = ("websocket_image_save.py",)
"""Single files that ComfyUI itself ships in custom_nodes."""
_PATHS_FILE = f"{ROOT}/extra_model_paths.yaml"


def torch_extras(lock: VersionLock, torch_backend: str | None) -> tuple[str, ...]:
    """The extras of the lock's project that choose the build of torch. Raises `usage` for one that it has not."""
    words = builds.sync_options(lock, torch_backend)
    return tuple(words[place + 1] for place, word in enumerate(words) if word == "--extra")


def runtime(lock: VersionLock, record: ImageRecord, manifest: CodeManifest) -> bytes:
    """The text of runtime.json."""
    shipped = tuple(name for name in _SHIPPED if _is_in_comfyui(f"custom_nodes/{name}", lock, manifest))
    content = Runtime(
        version=lock.version_name,
        digest=lock.digest,
        python=f"{ROOT}/env/bin/python",
        comfyui=f"{ROOT}/ComfyUI",
        packs=(*shipped, *(node.name for node in lock.custom_nodes if node.enabled)),
        model_paths_files=(_PATHS_FILE,),
        lock=f"{ROOT}/version.lock.json",
        extra_args=("--cpu",) if record.torch is None or record.torch.is_for_processor else (),
    )
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _is_in_comfyui(path: str, lock: VersionLock, manifest: CodeManifest) -> bool:
    edited = {file.path: file.sha256 is not None for file in lock.comfyui.patch}
    tracked = any(entry.path == path for tree in manifest.codes["ComfyUI"] for entry in tree.entries)
    return edited.get(path, tracked)


def model_paths(lock: VersionLock) -> str:
    """extra_model_paths.yaml: what is baked in, then the volumes, for every kind that ComfyUI or the lock knows."""
    own = {model.target_path.partition("/")[0] for model in lock.models if "/" in model.target_path}
    kinds = (*MODEL_FOLDERS, *sorted(own - set(MODEL_FOLDERS)))
    names = {"baked_in": BAKED, "runpod_volume": VOLUMES[0], "volume": VOLUMES[1]}
    return "".join(
        model_paths_text(name, Path(place), is_default=False, folders=kinds) for name, place in names.items()
    )
