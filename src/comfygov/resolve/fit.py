"""Does a pack say of itself that it fits this machine: Python, ComfyUI, operating system, accelerator.

Fields and classifiers are those of the Comfy registry (field notes on ComfyUI, section 6); other tools
do not enforce them locally.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.model.tx import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.resolve.requirements import Declared

_SYSTEM_CLASSIFIERS = {
    "linux": ("Operating System :: POSIX", "Operating System :: OS Independent"),
    "darwin": ("Operating System :: MacOS", "Operating System :: POSIX", "Operating System :: OS Independent"),
}
_ACCELERATORS = ("Environment :: GPU", "Environment :: NPU")
_OTHER_POSIX = "Operating System :: POSIX :: "


@dataclass(frozen=True)
class Machine:
    """What a pack is held against. `system` is Python's sys.platform."""

    python: str
    comfyui: str
    system: str
    has_accelerator: bool


def misfits(declared: Declared, machine: Machine) -> Iterator[tuple[Verdict, str]]:
    """What the pack says that is not so here: `fail` where it excludes this machine, else `warn`."""
    if not _within(machine.python, declared.requires_python):
        yield "fail", f"it requires Python {declared.requires_python}, this home has {machine.python}"
    if not _within(machine.comfyui, declared.requires_comfyui):
        yield "fail", f"it requires ComfyUI {declared.requires_comfyui}, this home has {machine.comfyui}"
    systems = [text for text in declared.classifiers if text.startswith("Operating System ::")]
    if systems and not any(_names(text, machine.system) for text in systems):
        yield "fail", f"it is made for {', '.join(systems)}"
    accelerators = [
        text for text in declared.classifiers if text.startswith(("Environment :: GPU", "Environment :: NPU"))
    ]
    if accelerators and not machine.has_accelerator:
        yield "warn", f"it is made for {', '.join(accelerators)}; this machine has none that ComfyUI can use"


def _within(version: str, specifier: str) -> bool:
    """True when there is nothing to compare, or the version is inside; an unreadable range is no reason."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    if not specifier or not version:
        return True
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def _names(classifier: str, system: str) -> bool:
    if classifier.startswith(_OTHER_POSIX):
        return system in classifier.lower()
    return classifier.startswith(_SYSTEM_CLASSIFIERS.get(system, ()))
