"""Loads core extras and custom node packs, and tells of failures in the words of the real program."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
import nodes
from comfy.cli_args import args
from utils.prestartup import allowed, entries, table

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger("comfyui")
EXTRAS = ("nodes_preview_any.py", "nodes_standin.py")
NO_NODES = "Skip %s module for custom nodes due to the lack of NODE_CLASS_MAPPINGS or NODES_LIST (need one)."
EXTRAS_FAILED = (
    "WARNING: some comfy_extras/ nodes did not import correctly. This may be because they are missing some "
    "dependencies.\n"
)
EXTRAS_ADVICE = "\nThis issue might be caused by new missing dependencies added the last time you updated ComfyUI."


def _module(path: Path) -> ModuleType:
    is_file = path.is_file()
    name = str(path.with_suffix("")) if is_file else str(path).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, path if is_file else path / "__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _add(name: str, cls: Any, core: set[str], where: str) -> None:  # noqa: ANN401
    if name not in core:
        nodes.NODE_CLASS_MAPPINGS[name] = cls
        cls.RELATIVE_PYTHON_MODULE = where


def _finish(value: Any) -> Any:  # noqa: ANN401
    if not inspect.isawaitable(value):
        return value
    import asyncio

    async def wait() -> Any:  # noqa: ANN401
        return await value

    return asyncio.run(wait())


def _take_v3(module: ModuleType, path: Path, core: set[str], where: str) -> bool:
    from comfy_api.latest import ComfyExtension

    extension = _finish(module.comfy_entrypoint())
    if not isinstance(extension, ComfyExtension):
        log.warning("comfy_entrypoint in %s did not return a ComfyExtension, skipping.", path)
        return False
    classes = _finish(extension.get_node_list())
    if not isinstance(classes, list):
        log.warning("comfy_entrypoint in %s did not return a list of nodes, skipping.", path)
        return False
    for cls in classes:
        schema = cls.GET_SCHEMA()
        _add(schema.node_id, cls, core, where)
        if schema.display_name is not None:
            nodes.NODE_DISPLAY_NAME_MAPPINGS[schema.node_id] = schema.display_name
    return True


def _try_v3(module: ModuleType, path: Path, core: set[str], where: str) -> bool:
    if not callable(module.comfy_entrypoint):
        log.warning("comfy_entrypoint in %s is not callable, skipping.", path)
        return False
    try:
        return _take_v3(module, path, core, where)
    except Exception as error:
        log.warning("Error while calling comfy_entrypoint in %s: %s", path, error)
        return False


def _take_web(module: ModuleType, path: Path) -> None:
    directory = getattr(module, "WEB_DIRECTORY", None)
    home = path.parent if path.is_file() else path
    nodes.LOADED_MODULE_DIRS[path.stem if path.is_file() else path.name] = str(home.absolute())
    if directory is not None and (home / directory).is_dir():
        nodes.EXTENSION_WEB_DIRS[path.stem if path.is_file() else path.name] = str((home / directory).resolve())


def _take(module: ModuleType, path: Path, core: set[str], where: str) -> bool:
    _take_web(module, path)
    if getattr(module, "NODE_CLASS_MAPPINGS", None) is not None:
        for name, cls in module.NODE_CLASS_MAPPINGS.items():
            _add(name, cls, core, where)
        nodes.NODE_DISPLAY_NAME_MAPPINGS.update(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
        return True
    if hasattr(module, "comfy_entrypoint"):
        return _try_v3(module, path, core, where)
    log.warning(NO_NODES, path)
    return False


def load_custom_node(path: Path, core: set[str], parent: str) -> bool:
    """Import one file or folder and take its nodes; only an Exception is survived, as in the real program."""
    where = f"{parent}.{path.stem if path.is_file() else path.name}"
    try:
        return _take(_module(path), path, core, where)
    except Exception as error:
        log.warning(traceback.format_exc())
        log.warning("Cannot import %s module for custom nodes: %s", path, error)
        return False


def _is_pack(path: Path) -> bool:
    if path.name == "__pycache__" or path.name.endswith(".disabled"):
        return False
    return not path.is_file() or path.suffix == ".py"


def load_packs() -> None:
    """Load everything in the custom_nodes folders that the flags allow."""
    core = set(nodes.NODE_CLASS_MAPPINGS)
    rows = []
    for root in folder_paths.get_folder_paths("custom_nodes"):
        for path in filter(_is_pack, entries(root)):
            if not allowed(path.name):
                log.info("Skipping %s due to disable_all_custom_nodes and whitelist_custom_nodes", path.name)
                continue
            start = time.perf_counter()
            success = load_custom_node(path, core, "custom_nodes")
            rows.append((time.perf_counter() - start, str(path), success))
    table("Import times for custom nodes:", "IMPORT FAILED", rows)


def load_extras() -> list[str]:
    """Load the core extras; the names of those that failed."""
    home = Path(__file__).resolve().parent.parent / "comfy_extras"
    return [name for name in EXTRAS if not load_custom_node(home / name, set(), "comfy_extras")]


def load_all() -> None:
    """Load extras and packs, and report the extras that failed."""
    failed = load_extras()
    if args.disable_all_custom_nodes and not args.whitelist_custom_nodes:
        log.info("Skipping loading of custom nodes")
    else:
        load_packs()
    if failed:
        log.warning(EXTRAS_FAILED)
        for name in failed:
            log.warning("IMPORT FAILED: %s", name)
        log.warning(EXTRAS_ADVICE)
        log.warning("Please do a: pip install -r requirements.txt\n")
