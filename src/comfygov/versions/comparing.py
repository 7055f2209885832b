"""What is different between two versions, for people and as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from comfygov.model.version import VersionDifference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from comfygov.model.version import LockedComfyUI, LockedNode, PatchedFile, VersionLock

_Kind = Literal["comfyui", "node", "package", "model", "python", "project"]


def differences(before: VersionLock, after: VersionLock) -> tuple[VersionDifference, ...]:
    """Every point that the digest covers, in the words of a person. Empty when the digests are equal."""
    if before.digest == after.digest:
        return ()
    found = [
        *_between("comfyui", {"ComfyUI": _code(before.comfyui)}, {"ComfyUI": _code(after.comfyui)}),
        *_between("node", _nodes(before), _nodes(after)),
        *_between("package", _packages(before), _packages(after)),
        *_between("model", _models(before), _models(after)),
        *_between("python", {"requires": before.python.requires}, {"requires": after.python.requires}),
    ]
    files = {name: getattr(before.python, name) != getattr(after.python, name) for name in ("pyproject", "uv_lock")}
    found += [VersionDifference("project", name, "", "differs") for name, is_other in files.items() if is_other]
    return tuple(found) or (VersionDifference("project", "digest", before.digest, after.digest),)


def _between(kind: _Kind, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[VersionDifference]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield VersionDifference(kind, name, before.get(name), after.get(name))


def _code(code: LockedComfyUI | LockedNode) -> str:
    return " ".join(filter(None, (code.repo, code.ref, code.commit[:10], _edits(code.patch))))


def _edits(files: tuple[PatchedFile, ...]) -> str:
    import hashlib

    if not files:
        return ""
    facts = [(file.path, file.mode, file.sha256) for file in files]
    return f"with {len(files)} edited ({hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:10]})"


def _nodes(lock: VersionLock) -> dict[str, str]:
    return {node.name: _node(node) for node in lock.custom_nodes}


def _node(node: LockedNode) -> str:
    how = "enabled" if node.enabled else "disabled" if node.promoted else "not promoted"
    asks = f"asks {', '.join(node.requirements)}" if node.requirements else ""
    return " ".join(filter(None, (_code(node), how, asks)))


def _packages(lock: VersionLock) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for package in lock.python.packages:
        found.setdefault(package.name, []).append(package.version)
    sums = {p.name: sorted(p.hashes.items()) for p in lock.python.packages if p.source == "wheels"}
    return {name: ", ".join(versions) + _sum_of(sums.get(name)) for name, versions in found.items()}


def _sum_of(hashes: list[tuple[str, str]] | None) -> str:
    return f" ({hashes[0][1][7:17]})" if hashes else ""


def _models(lock: VersionLock) -> dict[str, str]:
    return {model.target_path: f"{model.checksum} {model.size}" for model in lock.models}
