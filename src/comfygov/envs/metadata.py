"""What installed packages say of themselves: what they need, and where they were installed from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfygov.envs import record
from comfygov.model.names import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.requirements import Requirement


@dataclass(frozen=True)
class Installed:
    """`origin` is the address it was installed from, where that was no index; `folder` its dist-info directory."""

    name: str
    version: str
    needs: tuple[str, ...]
    requires_python: str
    origin: str
    editable: bool
    folder: Path

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


def installed(environment: Path) -> list[Installed]:
    """Every package of the environment that has a dist-info directory, sorted; of two with one name the later."""
    found = {}
    for name, version, path in sorted(record.dist_infos(environment)):
        direct = _direct(Path(path))
        editable = bool((direct.get("dir_info") or {}).get("editable"))
        needs, python = _said(Path(path))
        found[name] = Installed(name, version, needs, python, str(direct.get("url", "")), editable, Path(path))
    return list(found.values())


def _said(folder: Path) -> tuple[tuple[str, ...], str]:
    """Requires-Dist and Requires-Python of METADATA."""
    import email

    try:
        text = (folder / "METADATA").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return (), ""
    message = email.message_from_string(text)
    return tuple(map(str, message.get_all("Requires-Dist") or ())), str(message.get("Requires-Python") or "")


def oldest_python(packages: Iterable[Installed], here: str) -> str:
    """The oldest patch release of the Python `here` (3.11.7) that all packages take; empty when 3.11.0 does."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    minor, _, patch = here.rpartition(".")
    floor = 0
    for package in packages:
        try:
            wanted = SpecifierSet(package.requires_python)
        except InvalidSpecifier:
            continue
        refused = [number for number in range(int(patch or 0)) if not wanted.contains(f"{minor}.{number}")]
        floor = max(floor, *(number + 1 for number in refused), 0)
    return f"{minor}.{floor}" if floor else ""


def _direct(folder: Path) -> dict[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode((folder / "direct_url.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return {}


def unowned(environment: Path) -> list[str]:
    """Names at the top of site-packages that belong to no package with a RECORD."""
    site = record.site_packages(environment)
    owned = {Path(name).parts[0] for name in record.named_files(environment) if Path(name).parts}
    infos = {Path(path).name for _, _, path in record.dist_infos(environment)}
    tools = {"_virtualenv.py", "_virtualenv.pth", "__pycache__", "distutils-precedence.pth"}
    names = (path.name for path in site.iterdir()) if site.is_dir() else ()
    return sorted(name for name in names if name not in owned | infos | tools)


class Needs:
    """Which needs of installed packages, and of lines that are asked for, the installed ones meet."""

    def __init__(self, packages: Iterable[Installed], markers: Mapping[str, str]) -> None:
        """`markers` is the environment that markers are judged in (PEP 508 names)."""
        self.packages = {package.name: package for package in packages}
        self.markers = dict(markers)
        self.extras: dict[str, set[str]] = {name: set() for name in self.packages}

    def verdict(self, line: Requirement) -> str:
        """`met`, `idle` (its marker is false here), `missing`, or `other` version."""
        if not self._applies(line, {""}):
            return "idle"
        there = self.packages.get(canonical(line.name))
        if there is None:
            return "missing"
        return "met" if line.url or line.specifier.contains(there.version, prereleases=True) else "other"

    def reach(self, lines: Iterable[Requirement]) -> set[str]:
        """The installed packages that `lines` need, directly or not; the extras they ask for are remembered."""
        seen: set[str] = set()
        waiting = [line for line in lines if self._applies(line, {""})]
        while waiting:
            line = waiting.pop()
            name = canonical(line.name)
            if name not in self.packages:
                continue
            fresh = set(line.extras) - self.extras[name]
            self.extras[name] |= fresh
            if name not in seen or fresh:
                seen.add(name)
                waiting += self.needs_of(name)
        return seen

    def needs_of(self, name: str) -> list[Requirement]:
        """What a package needs here, with the extras of it that somebody asks for."""
        lines = map(_parsed, self.packages[name].needs)
        active = {"", *self.extras[name]}
        return [line for line in lines if line is not None and self._applies(line, active)]

    def _applies(self, line: Requirement, extras: set[str]) -> bool:
        if line.marker is None:
            return True
        return any(line.marker.evaluate({**self.markers, "extra": extra}) for extra in extras)


def _parsed(text: str) -> Requirement | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None
