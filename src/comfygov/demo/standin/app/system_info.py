# ruff: noqa: ANN401 - node classes have no common base
"""What the server tells about itself and about its nodes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nodes
from comfy.cli_args import args
from comfyui_version import __version__


def _memory() -> tuple[int, int]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0, 0


def system_stats() -> dict[str, Any]:
    """The answer to /system_stats; it says that this is a stand-in."""
    total, free = _memory()
    system = {
        "os": os.name,
        "ram_total": total,
        "ram_free": free,
        "comfyui_version": __version__,
        "required_frontend_version": None,
        "installed_templates_version": None,
        "required_templates_version": None,
        "python_version": sys.version,
        "pytorch_version": "0.0.0+standin",
        "embedded_python": Path(sys.executable).parent.name == "python_embeded",
        "argv": sys.argv,
        "stand_in": True,
    }
    device = {"name": "cpu", "type": "cpu", "index": None, "vram_total": total, "vram_free": free}
    device |= {"torch_vram_total": total, "torch_vram_free": free}
    return {"system": system, "devices": [device], "stand_in": True}


def features() -> dict[str, Any]:
    """The answer to /features."""
    return {"supports_preview_metadata": True, "max_upload_size": args.max_upload_size * 1024 * 1024}


def node_info(name: str) -> dict[str, Any]:
    """What /object_info tells about one class."""
    cls = nodes.NODE_CLASS_MAPPINGS[name]
    inputs = cls.INPUT_TYPES()
    info = {
        "input": inputs,
        "input_order": {kind: list(values) for kind, values in inputs.items()},
        "output": cls.RETURN_TYPES,
        "output_is_list": getattr(cls, "OUTPUT_IS_LIST", [False] * len(cls.RETURN_TYPES)),
        "output_name": getattr(cls, "RETURN_NAMES", cls.RETURN_TYPES),
        "name": name,
        "display_name": nodes.NODE_DISPLAY_NAME_MAPPINGS.get(name, name),
        "description": getattr(cls, "DESCRIPTION", ""),
        "python_module": getattr(cls, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": getattr(cls, "CATEGORY", "sd"),
        "output_node": bool(getattr(cls, "OUTPUT_NODE", False)),
    }
    return info | _optional(cls)


def _optional(cls: Any) -> dict[str, Any]:
    found = {}
    for key, attribute in (("deprecated", "DEPRECATED"), ("experimental", "EXPERIMENTAL")):
        if getattr(cls, attribute, False):
            found[key] = True
    for key, attribute in (("output_tooltips", "OUTPUT_TOOLTIPS"), ("api_node", "API_NODE")):
        if hasattr(cls, attribute):
            found[key] = getattr(cls, attribute)
    return found
