"""The small part of the v3 node API that the stand-in speaks: extensions, schemas, inputs and outputs."""

from __future__ import annotations

from comfy_api.latest import _io as io
from comfy_api.latest._io import ComfyExtension

__all__ = ["ComfyExtension", "io"]
