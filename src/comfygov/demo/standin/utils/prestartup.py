"""Runs prestartup_script.py of the packs, before anything of the program itself is imported."""

from __future__ import annotations

import importlib.util
import logging
import time
from pathlib import Path

import folder_paths
from comfy.cli_args import args

log = logging.getLogger("comfyui")


def allowed(name: str) -> bool:
    """Say whether the flags let this entry of custom_nodes load."""
    return not args.disable_all_custom_nodes or name in args.whitelist_custom_nodes


def table(title: str, failed: str, rows: list[tuple[float, str, bool]]) -> None:
    """Print how long each took and which failed."""
    if rows:
        log.info("\n%s", title)
        for seconds, path, success in sorted(rows):
            log.info("%6.1f seconds%s: %s", seconds, "" if success else f" ({failed})", path)
        log.info("")


def entries(root: str) -> list[Path]:
    """In the order of the directory, not sorted."""
    return [Path(root, entry.name) for entry in Path(root).iterdir()]


def _prestart(script: Path) -> bool:
    try:
        spec = importlib.util.spec_from_file_location(str(script.with_suffix("")), script)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        log.error("Failed to execute startup-script: %s / %s", script, error)  # noqa: TRY400 - as the real one
        return False
    return True


def run_prestartup_scripts() -> None:
    """Run prestartup_script.py of every pack that will load, before anything else is imported."""
    if args.disable_all_custom_nodes and not args.whitelist_custom_nodes:
        return
    rows = []
    for root in folder_paths.get_folder_paths("custom_nodes"):
        for path in entries(root):
            script = path / "prestartup_script.py"
            if path.is_file() or path.name.endswith(".disabled") or not script.exists():
                continue
            if not allowed(path.name):
                log.info(
                    "Prestartup Skipping %s due to disable_all_custom_nodes and whitelist_custom_nodes",
                    path.name,
                )
                continue
            start = time.perf_counter()
            success = _prestart(script)
            rows.append((time.perf_counter() - start, str(path), success))
    table("Prestartup times for custom nodes:", "PRESTARTUP FAILED", rows)
