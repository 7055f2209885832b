"""What a uv.lock says must be installed, so that an environment can be held against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfygov.model.names import PROJECT_NAME, canonical

if TYPE_CHECKING:
    from comfygov.ports.uv import Interpreter


def mismatches(uv_lock: bytes, installed: tuple[str, ...]) -> list[str]:
    """Where `installed` (lines of a freeze) is not what the lock asks for; empty when it is.

    A package that only a marker asks for may be there or not: the resolver has judged the marker.
    """
    from comfygov.ports import toml

    packages: list[dict[str, Any]] = toml.loads(uv_lock.decode()).get("package", [])
    versions: dict[str, set[str]] = {}
    for package in packages:
        versions.setdefault(package["name"], set()).add(package.get("version", ""))
    found = dict(line.split(" @ ")[0].split("==", 1) for line in installed)
    wrong = [
        f"{name} {version} is installed and not in the lock"
        for name, version in sorted(found.items())
        if not any(_is_version(version, known) for known in versions.get(name, ()))
    ]
    return wrong + [f"{name} is in the lock and not installed" for name in sorted(_certain(packages) - found.keys())]


def chosen_extras(pyproject: bytes) -> tuple[str, ...]:
    """The extras of a project that its environment is synced with: the build of torch that was chosen among
    several, by `[tool.comfygov]` (truth.declaration)."""
    from comfygov.ports import toml

    own = toml.loads(pyproject.decode()).get("tool", {}).get("comfygov", {})
    build = own.get("torch_backend") if own.get("torch_backends") else None
    return (canonical(build),) if build else ()


def other_builds(uv_lock: bytes, installed: tuple[str, ...], extras: tuple[str, ...], python: Interpreter) -> list[str]:
    """Packages that are installed in another build than the chosen extras ask for on this platform."""
    from comfygov.ports import toml

    packages: list[dict[str, Any]] = toml.loads(uv_lock.decode()).get("package", []) if extras else []
    root = next((package for package in packages if "virtual" in package.get("source", {})), {})
    found = dict(line.split(" @ ")[0].split("==", 1) for line in installed)
    return [
        f"{edge['name']} {found.get(edge['name'])} is installed where `{extra}` asks for {edge['version']}"
        for extra in extras
        for edge in root.get("optional-dependencies", {}).get(extra, [])
        if _holds(edge, extra, python) and found.get(edge["name"]) != edge.get("version")
    ]


def _holds(edge: dict[str, Any], extra: str, python: Interpreter) -> bool:
    """Whether an edge is meant; uv calls the extras of its forks `extra-LENGTH-PROJECT-EXTRA`."""
    from packaging.markers import Marker

    name = f"extra-{len(PROJECT_NAME)}-{PROJECT_NAME}-{extra}"
    facts = {"sys_platform": python.system, "platform_machine": python.machine, "extra": name}
    return "version" in edge and ("marker" not in edge or Marker(edge["marker"]).evaluate(facts))


def _is_version(installed: str, known: str) -> bool:
    """A package from a folder or an address may be locked without a version."""
    from packaging.version import InvalidVersion, Version

    try:
        return not known or installed == known or Version(installed) == Version(known)
    except InvalidVersion:
        return False


def _certain(packages: list[dict[str, Any]]) -> set[str]:
    """Names that the project asks for, directly or through others, without any marker."""
    by_name = {package["name"]: package for package in packages}
    roots = [package for package in packages if "virtual" in package.get("source", {})]
    pending = [edge for root in roots for edge in _asked(root)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while pending:
        edge = pending.pop()
        key = (edge["name"], tuple(edge.get("extra", ())))
        if "marker" in edge or key in seen or edge["name"] not in by_name:
            continue
        seen.add(key)
        package = by_name[edge["name"]]
        pending += package.get("dependencies", [])
        pending += [
            inner for extra in key[1] for inner in package.get("optional-dependencies", {}).get(extra, [])
        ]  # fmt: skip
    return {name for name, _ in seen}


def _asked(root: dict[str, Any]) -> list[dict[str, Any]]:
    groups = root.get("dev-dependencies", {}).values()
    return [*root.get("dependencies", []), *(edge for group in groups for edge in group)]
