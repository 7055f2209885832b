# ruff: noqa: N802 - the shape of node classes is given by ComfyUI
"""A node that only reports its images as progress, as the file of this name in ComfyUI does."""

from __future__ import annotations

import time
from typing import Any

from comfy.utils import ProgressBar


class SaveImageWebsocket:
    """Sends nothing to the disk."""

    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "api/image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Images."""
        return {"required": {"images": ("IMAGE",)}}

    def save_images(self, images: list[Any]) -> dict[str, Any]:
        """Report each one."""
        bar = ProgressBar(len(images))
        for step, _ in enumerate(images):
            bar.update_absolute(step + 1)
        return {}

    @classmethod
    def IS_CHANGED(cls, images: Any) -> float:  # noqa: ANN401, ARG003
        """Always."""
        return time.time()


NODE_CLASS_MAPPINGS = {"SaveImageWebsocket": SaveImageWebsocket}
