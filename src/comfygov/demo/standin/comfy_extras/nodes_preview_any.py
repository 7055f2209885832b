# ruff: noqa: N802, ANN401 - the shape of node classes is given by ComfyUI
"""Shows any value as text."""

from __future__ import annotations

import json
from typing import Any


def as_text(value: Any) -> str:
    """A string for anything."""
    if value is None or isinstance(value, str):
        return value or "None"
    try:
        return str(value) if isinstance(value, (int, float)) else json.dumps(value)
    except (TypeError, ValueError):
        return str(value)


class PreviewAny:
    """Text on the node."""

    RETURN_TYPES = ()
    FUNCTION = "main"
    OUTPUT_NODE = True
    CATEGORY = "utils"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Anything."""
        return {"required": {"source": ("*", {})}}

    def main(self, source: Any = None) -> dict[str, Any]:
        """Show it."""
        return {"ui": {"text": (as_text(source),)}}


NODE_CLASS_MAPPINGS = {"PreviewAny": PreviewAny}
NODE_DISPLAY_NAME_MAPPINGS = {"PreviewAny": "Preview Any"}
