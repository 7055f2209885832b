"""What a `uv.lock` says about packages and who depends on them (uv, "The lockfile"; format version 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfygov.model.names import PROJECT_NAME
from comfygov.ports import toml


@dataclass(frozen=True)
class Locked:
    """`versions` by package; `depends` are (package, version, the packages it depends on)."""

    versions: dict[str, str]
    depends: tuple[tuple[str, str, frozenset[str]], ...]

    def dependents_of(self, package: str) -> list[str]:
        return [f"{name} {version}" for name, version, needed in self.depends if package in needed]


def read(uv_lock: str) -> Locked:
    packages: list[dict[str, Any]] = toml.loads(uv_lock).get("package", [])
    real = [entry for entry in packages if entry["name"] != PROJECT_NAME]
    return Locked(
        {entry["name"]: entry.get("version", "") for entry in real},
        tuple((entry["name"], entry.get("version", ""), _needed(entry)) for entry in real),
    )


def _needed(entry: dict[str, Any]) -> frozenset[str]:
    extras = entry.get("optional-dependencies", {}).values()
    lists = [entry.get("dependencies", []), *extras]
    return frozenset(needed["name"] for wanted in lists for needed in wanted)
