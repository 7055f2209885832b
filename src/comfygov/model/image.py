"""What an image holds beside the lock: how it was made, and what its code is made of."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

IMAGE_SCHEMA = 1

ROOT = "/opt/comfy"
"""Where ComfyUI, its environment and the lock lie in an image."""
HANDLER = "/opt/handler"
"""Where comfygov lies in an image, in an environment of its own."""
WORK = "/var/comfy"
"""The one folder of an image that its user writes."""
USER_ID = 10001
"""The uid of the image's user; its group is 0, as hosts that choose the uid themselves expect."""
VOLUMES = ("/runpod-volume/models", "/models")
"""Where models are looked for: RunPod's network volume, and a volume of your own (or what is baked in)."""

Mode = Literal["runpod", "http", "job", "page", "check", "smoke"]
Target = Literal["runpod", "kubernetes"]


class Part(Struct, frozen=True, omit_defaults=True):
    """Base of what is stored in an image: what is empty is left out."""


class TorchBuild(Part, frozen=True):
    """The torch of the lock. `cuda` and `rocm` are what it was built with, such as `13.0` and `6.4`; empty where it
    needs none."""

    version: str
    cuda: str = ""
    rocm: str = ""

    @property
    def is_for_processor(self) -> bool:
        return not self.cuda and not self.rocm


class ImageRecord(Part, frozen=True):
    """`/opt/comfy/image.json`: what the image was made from. `base` and `uv` are the images that it stands on, with
    their digests; `models` says whether the models of the lock are in it."""

    schema_version: int
    version: str
    digest: str
    comfygov: str
    base: str
    uv: str
    python: str
    torch: TorchBuild | None = None
    torch_backend: str = ""
    models: bool = False


class CodeEntry(Part, frozen=True):
    """One entry of a git tree, submodules as `160000` with their commit. `written` is the sha256 of the file as git
    wrote it, where that is not what it stores (`eol` and the like). A path that is no UTF-8 is `quoted` (%FF)."""

    path: str
    mode: str
    id: str
    written: str = ""
    quoted: bool = False


class CodeTree(Part, frozen=True):
    """The files of one commit. `place` is empty, or the path of a submodule below the code that it belongs to;
    `commit_object` (base64) is that of a submodule, which binds its files to the entry above."""

    commit: str
    entries: tuple[CodeEntry, ...]
    place: str = ""
    commit_object: str = ""


class CodeManifest(Part, frozen=True):
    """`/opt/comfy/code.json`: the git trees of ComfyUI (under the name `ComfyUI`) and of every pack."""

    schema_version: int
    codes: dict[str, tuple[CodeTree, ...]] = field(default_factory=dict)
