"""Do torch, torchvision and torchaudio fit each other, and which pins make them.

Sources: the release tables of torchvision and torchaudio. torchvision 0.N belongs to torch 2.(N-15);
torchaudio has torch's own number. PyPI's metadata does not enforce it: unconstrained resolution gives
torch 2.15 with torchaudio 2.11, which fails at import (field notes on ComfyUI, section 12).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MEMBERS = ("torch", "torchvision", "torchaudio")
_VISION_OFFSET = 15


def locked_versions(uv_lock: str) -> dict[str, str]:
    """Package name -> version of a uv.lock: the last one where platforms differ, and without its `+cpu` where the
    lock carries several builds of it."""
    found: dict[str, str] = {}
    for name, version in re.findall(r'^\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"', uv_lock, re.MULTILINE):
        known, public = found.get(name, version), version.partition("+")[0]
        found[name] = public if known != version and known.partition("+")[0] == public else version
    return found


def torch_minor(package: str, version: str) -> int | None:
    """The N of the torch 2.N that `version` of a family member belongs to."""
    match = re.match(r"(\d+)\.(\d+)", version)
    if not match:
        return None
    major, minor = int(match[1]), int(match[2])
    if package == "torchvision":
        return minor - _VISION_OFFSET if major == 0 and minor >= _VISION_OFFSET else None
    return minor if major == 2 else None


def _minors(versions: dict[str, str]) -> dict[str, int]:
    found = {name: torch_minor(name, versions.get(name, "")) for name in MEMBERS}
    return {name: minor for name, minor in found.items() if minor is not None}


def _pins(names: Iterable[str], minor: int) -> tuple[str, ...]:
    pins = {
        "torch": f"torch==2.{minor}.*",
        "torchvision": f"torchvision==0.{minor + _VISION_OFFSET}.*",
        "torchaudio": f"torchaudio==2.{minor}.*",
    }
    return tuple(pins[name] for name in names)


def misfit(versions: dict[str, str]) -> tuple[str, tuple[str, ...]] | None:
    """What does not fit, and the constraints that mend it; None when the family fits or is not known."""
    minors = _minors(versions)
    if "torch" not in minors or len(set(minors.values())) < 2:
        return None
    shown = ", ".join(f"{name} {versions[name]}" for name in minors)
    return f"{shown} are builds for different torch versions", _pins(minors, min(minors.values()))


def fitting(versions: dict[str, str]) -> list[tuple[str, ...]]:
    """Sets of constraints under which the family fits, torch's own version first; none when it fits already."""
    if misfit(versions) is None:
        return []
    minors = _minors(versions)
    others = sorted(set(minors.values()) - {minors["torch"]}, reverse=True)
    return [_pins(minors, minor) for minor in (minors["torch"], *others)]
