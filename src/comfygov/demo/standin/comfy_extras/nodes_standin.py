# ruff: noqa: N802, ANN401 - the shape of node classes is given by ComfyUI
"""Nodes that only the stand-in has: one that takes its time, one that fails."""

from __future__ import annotations

import time
from typing import Any

from comfy import model_management
from comfy.utils import ProgressBar

STEPS = 10


class StandinSleep:
    """Waits, reports progress, and gives up when interrupted."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "sleep"
    OUTPUT_NODE = True
    CATEGORY = "stand-in"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """How long, and an image to pass on."""
        seconds = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 3600.0})
        return {"required": {"seconds": seconds}, "optional": {"image": ("IMAGE",)}}

    def sleep(self, seconds: float, image: Any = None) -> dict[str, Any]:
        """Wait in small pieces."""
        bar, start = ProgressBar(STEPS), time.monotonic()
        for step in range(STEPS):
            while time.monotonic() < start + seconds * (step + 1) / STEPS:
                model_management.throw_exception_if_processing_interrupted()
                time.sleep(min(0.02, seconds / STEPS))
            bar.update_absolute(step + 1, STEPS)
        return {"ui": {"seconds": [seconds]}, "result": (image,)}


class StandinFail:
    """Raises an error."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "fail"
    OUTPUT_NODE = True
    CATEGORY = "stand-in"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What to say."""
        message = ("STRING", {"default": "the stand-in was asked to fail"})
        return {"required": {"message": message}, "optional": {"image": ("IMAGE",)}}

    def fail(self, message: str, image: Any = None) -> tuple[Any]:  # noqa: ARG002
        """Fail."""
        raise RuntimeError(message)


NODE_CLASS_MAPPINGS = {"StandinSleep": StandinSleep, "StandinFail": StandinFail}
