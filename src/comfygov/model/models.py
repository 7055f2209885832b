"""Model files: what a spec or a lock says of them, and what was found."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

EXTENSIONS = (".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft")
"""What ComfyUI takes for a model (folder_paths.supported_pt_extensions)."""
MODEL_ENDINGS = (*EXTENSIONS, ".gguf", ".onnx")
"""With what common packs load besides (ComfyUI-GGUF, preprocessors): data, and no pickles."""
SAFETENSORS = (".safetensors", ".sft")
PICKLED = tuple(ending for ending in EXTENSIONS if ending not in SAFETENSORS)
"""Formats whose loading can run code (`.bin` and `.pt2` may be harmless; their names do not say so)."""

FOLDER_NAMES: dict[str, tuple[str, ...]] = {
    "text_encoders": ("text_encoders", "clip"),
    "clip": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
    "unet": ("unet", "diffusion_models"),
    "controlnet": ("controlnet", "t2i_adapter"),
}
"""Kinds of models that ComfyUI looks for in several folders (folder_paths.py); the others in the one of their name."""


class ModelEntry(Struct, frozen=True):
    """One model of a spec or a lock. `target_path` starts at the models folder, with `/` between names;
    `checksum` is 64 hexadecimal digits of sha256, or None when nobody has said it yet; `size` is in bytes."""

    name: str
    target_path: str
    sources: tuple[str, ...] = ()
    checksum: str | None = None
    size: int | None = None

    @property
    def is_pickled(self) -> bool:
        return self.target_path.lower().endswith(PICKLED)


Status = Literal["present", "fetched", "mended", "missing", "wrong", "unverifiable", "recorded", "refused"]
GOOD: tuple[Status, ...] = ("present", "fetched", "mended", "recorded")


class ModelState(Struct, frozen=True):
    """What verify found of one entry and did about it. `path` is where the file is or should be; `checksum` is
    the sum that was found, with its algorithm; `problem` says what is not right, `source` where the bytes came
    from, and `skipped` which sources did not give them, and why."""

    name: str
    target_path: str
    path: str
    status: Status
    size: int | None = None
    checksum: str | None = None
    expected: str | None = None
    problem: str = ""
    source: str | None = None
    skipped: tuple[str, ...] = ()
    fetched_bytes: int = 0
    network: bool = False


class SafetensorsFacts(Struct, frozen=True):
    """What the header of a safetensors file says. `kind` is a guess from the names of its tensors."""

    kind: str
    tensors: int
    parameters: int
    dtypes: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class ScannedModel(Struct, frozen=True):
    """A model file that was found. `problem` is set when its content is not what its name says."""

    name: str
    target_path: str
    size: int
    checksum: str
    facts: SafetensorsFacts | None = None
    problem: str = ""


class NeededModel(Struct, frozen=True):
    """A model file that a workflow names. `node` is the class that asks for it; `folder` is the kind of models it
    is looked for in, "" for any; `status`: on disk, in the spec or lock and not on disk, or neither."""

    name: str
    node: str
    field: str
    folder: str
    status: Literal["present", "locked", "unknown"]
    path: str | None = None
    url: str | None = None
