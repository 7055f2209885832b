"""What came up: read from ComfyUI's API and its log, since a failed import does not stop it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from comfygov.model.state import Baseline, PackHealth

if TYPE_CHECKING:
    from comfygov.ports.comfy_api import ComfyApi

# nodes.py prints a table of import times; main.py prints the same form for prestartup scripts.
_TIMING = re.compile(
    r"^\s*(?P<seconds>\d+\.\d+) seconds(?P<failed> \((?:IMPORT|PRESTARTUP) FAILED\))?: (?P<path>.+?)\s*$"
)
_CANNOT_IMPORT = re.compile(r"Cannot import (?P<path>.+?) module for custom nodes: (?P<reason>.*)")
_SKIPPED = re.compile(r"Skip (?P<path>.+?) module for custom nodes due to (?P<reason>.*)")
_NO_EXTENSION = re.compile(r"comfy_entrypoint in (?P<path>\S+) (?P<reason>(is|did) not .+), skipping")
_ENTRY_RAISED = re.compile(r"Error while calling comfy_entrypoint in (?P<path>\S+?): (?P<reason>.*)")
_CORE_FAILED = re.compile(r"^IMPORT FAILED: (?P<file>\S+)")

_FAILURES = (_CANNOT_IMPORT, _SKIPPED, _NO_EXTENSION, _ENTRY_RAISED)


def read(api: ComfyApi, log: str, boot_seconds: float) -> Baseline:
    """The health of a ComfyUI that answers."""
    return judge(api.system_stats(), api.object_info(), log, boot_seconds)


def judge(system_stats: dict[str, Any], object_info: dict[str, Any], log: str, boot_seconds: float) -> Baseline:
    """The health that its answers and its log show."""
    system = system_stats.get("system", {})
    core, by_pack = _classes(object_info)
    return Baseline(
        comfyui_version=str(system.get("comfyui_version", "")),
        python_version=str(system.get("python_version", "")).split(" ")[0],
        pytorch_version=str(system.get("pytorch_version", "")),
        boot_seconds=round(boot_seconds, 3),
        core_classes=core,
        core_failures=_core_failures(log),
        packs=_packs(log, by_pack),
    )


def _classes(object_info: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    core: list[str] = []
    by_pack: dict[str, list[str]] = {}
    for name in sorted(object_info):
        module = str(object_info[name].get("python_module", ""))
        if module.startswith("custom_nodes."):
            by_pack.setdefault(module.removeprefix("custom_nodes."), []).append(name)
        else:
            core.append(name)
    return tuple(core), by_pack


def _core_failures(log: str) -> tuple[str, ...]:
    found = (_CORE_FAILED.match(line) for line in log.splitlines())
    return tuple(sorted({match["file"] for match in found if match}))


def _packs(log: str, by_pack: dict[str, list[str]]) -> tuple[PackHealth, ...]:
    reasons = failures(log)
    times: dict[str, float] = {}
    failed: set[str] = set()
    for line in log.splitlines():
        match = _TIMING.match(line)
        if match:
            name = _name_of(match["path"])
            times[name] = times.get(name, 0.0) + float(match["seconds"])
            if match["failed"]:
                failed.add(name)
    known = times.keys() | reasons.keys()
    single_files = {_module_name(name) for name in known if name.endswith(".py")}
    names = sorted(known | (by_pack.keys() - single_files))
    return tuple(
        PackHealth(
            name=name,
            loaded=name not in failed and name not in reasons,
            classes=tuple(by_pack.get(_module_name(name), by_pack.get(name, ()))),
            reason=reasons.get(name, "its import failed" if name in failed else ""),
            seconds=round(times.get(name, 0.0), 3),
        )
        for name in names
    )


def failures(log: str) -> dict[str, str]:
    """Pack -> why ComfyUI says it did not load."""
    found: dict[str, str] = {}
    for line in log.splitlines():
        match = next(filter(None, (form.search(line) for form in _FAILURES)), None)
        if match:
            found[_name_of(match["path"])] = match["reason"].strip()
    return found


def _name_of(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _module_name(name: str) -> str:
    return name.removesuffix(".py")
