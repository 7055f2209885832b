"""Judging every word of a lock before anything is written: it may come from anybody."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.model.builds import is_build
from comfygov.model.names import group_of, is_file_id, is_node_id
from comfygov.model.version import WHEELS
from comfygov.ports import toml
from comfygov.ports.source import CONTENT, REGISTRY, parse_source, without_credentials
from comfygov.versions import builds, lockfile, overlay, portable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from comfygov.model.version import LockedNode, LockedPython, PatchedFile, VersionLock

__all__ = ["CONTENT", "bad", "judge"]

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SUM = re.compile(r"sha256:[0-9a-f]{64}")
_REGISTERED = re.compile(rf"{REGISTRY}[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}")
_REQUIRES = re.compile(r"==3\.\d{1,2}\.\*")
_WHEEL = re.compile(r"[A-Za-z0-9_.+!-]+\.(?:whl|tar\.gz|zip)")
_TEXT_BYTES = 20_000_000
_MOST_LEVELS = 20
_MOST_BYTES = 2**53
"""What JSON readers of other languages can still count, and more than any file has."""


def judge(path: Path, lock: VersionLock) -> None:
    """Raises `bad_config`, naming the place."""
    lockfile.refuse_bad_name(lock.version_name)
    _code(path, "comfyui", lock.comfyui.repo, lock.comfyui.commit, lock.comfyui.tree, lock.comfyui.ref)
    overlay.judge(f"{path}: comfyui", lock.comfyui.patch)
    _refuse_twice(path, "custom_nodes", (node.name.casefold() for node in lock.custom_nodes))
    _refuse_twice(path, "custom_nodes", (group_of(node.name) for node in lock.custom_nodes))
    for node in lock.custom_nodes:
        _node(path, node)
    _python(path, lock.python)
    for model in lock.models:
        if not _SUM.fullmatch(model.checksum) or not 0 <= (model.size or 0) < _MOST_BYTES:
            raise bad(path, f"the model `{model.name[:100]}` has no sha256 checksum, or a size that no file has")


def bad(path: Path, problem: str) -> GovError:
    return GovError(Code.BAD_CONFIG, f"{path}: {problem}", "take the lock again from where it was made")


def _node(path: Path, node: LockedNode) -> None:
    is_file = is_file_id(node.name) and [file.path for file in node.content] == [node.name]
    if not is_node_id(node.name) and not is_file:
        raise bad(path, f"`{node.name[:100]}` cannot be the name of a pack")
    is_content = node.repo.startswith(CONTENT)
    if is_content != bool(node.content):
        raise bad(path, f"the pack {node.name} has a repo or a content, not both")
    _code(path, node.name, node.repo, node.commit, node.tree, node.ref)
    _files(path, node.name, (*node.patch,))
    _files(path, node.name, (*node.content,))
    if node.enabled and not node.promoted:
        raise bad(path, f"the pack {node.name} is enabled and was never promoted")


def _files(path: Path, name: str, files: tuple[PatchedFile, ...]) -> None:
    overlay.judge(f"{path}: {name}", files)


def _code(path: Path, name: str, repo: str, commit: str, tree: str, ref: str | None) -> None:
    if not _COMMIT.fullmatch(commit) or not _COMMIT.fullmatch(tree):
        raise bad(path, f"{name}: `{commit[:80]}` or `{tree[:80]}` is no commit or tree")
    if ref is not None and (ref.startswith("-") or len(ref) > 250 or not ref.isprintable()):
        raise bad(path, f"{name}: `{ref[:80]}` is no ref")
    if repo == f"{CONTENT}{tree}" or _REGISTERED.fullmatch(repo):
        return
    if without_credentials(repo) != repo:
        raise bad(path, f"{name}: its repo holds credentials or options")
    if repo.startswith("/"):
        parts = repo.split("/")
        if ".." in parts or not repo.isprintable() or len(repo) > 2000:
            raise bad(path, f"{name}: `{repo[:200]}` is no folder")
        return
    if "://" not in repo and "@" not in repo:
        raise bad(path, f"{name}: `{repo[:200]}` is no git source")
    parse_source(repo, path.parent)


def _python(path: Path, python: LockedPython) -> None:
    if not _REQUIRES.fullmatch(python.requires):
        raise bad(path, f"`{python.requires[:80]}` is no Python that an environment is for")
    if max(len(python.pyproject), len(python.uv_lock)) > _TEXT_BYTES:
        raise bad(path, "its project files are larger than any that uv wrote")
    try:
        for text in (python.pyproject, python.uv_lock):
            _refuse_depth(toml.loads(text))
        uv = toml.loads(python.pyproject)["tool"]["uv"]
        links = uv.get("find-links", [])
        places = {package["name"]: portable.local_place(package) for package in portable.packages_in(python.uv_lock)}
        packages = portable.locked_packages(python.uv_lock, _sums(python))
        indexes = portable.indexes(python.pyproject)
        several = builds.several(python.pyproject)
    except (toml.TOMLDecodeError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise bad(path, f"its project files cannot be read: {str(error)[:400]}") from error
    for name, place in places.items():
        if place:
            raise bad(path, f"the package {name[:100]} would come from {without_credentials(place)[:200]}")
    if any(link != WHEELS and not link.startswith(("http://", "https://")) for link in links):
        raise bad(path, "its pyproject names a folder for wheels")
    _one_word_each(path, [*links, *(entry.get("url", "") for entry in uv.get("index", []))])
    if packages != python.packages or indexes != python.indexes:
        raise bad(path, "its list of packages or indexes is not the one of its uv.lock and pyproject")
    _builds(path, python, several)
    for package in packages:
        _package(path, package.name, package.source, package.hashes)


def _one_word_each(path: Path, addresses: list[str]) -> None:
    if not all(text.isprintable() and " " not in text for text in addresses):
        raise bad(path, "its pyproject names an address with a space or a sign that cannot be printed")


def _refuse_depth(document: object) -> None:
    """What reads it later goes down one call for each level."""
    level: list[object] = [document]
    for _ in range(_MOST_LEVELS):
        level = [inner for one in level if isinstance(one, dict | list) for inner in _inside(one)]
    if level:
        raise ValueError(f"more than {_MOST_LEVELS} levels are in each other")


def _inside(one: dict[str, object] | list[object]) -> Iterable[object]:
    return one.values() if isinstance(one, dict) else one


def _builds(path: Path, python: LockedPython, several: tuple[str, ...]) -> None:
    if several != python.torch_backends or python.torch_backend not in ("", *several):
        raise bad(path, "its torch builds are not those of its pyproject")
    if not all(map(is_build, several)):
        raise bad(path, "its pyproject names a torch build that is none")
    if several and builds.with_build(python.pyproject, "") != python.pyproject:
        raise bad(path, "its pyproject chooses a torch build, which each clone does for itself")


def _sums(python: LockedPython) -> dict[str, str]:
    return portable.local_sums(python.packages)


def _package(path: Path, name: str, source: str, hashes: dict[str, str]) -> None:
    for file, text in hashes.items():
        if not _SUM.fullmatch(text) or (source == WHEELS and not _WHEEL.fullmatch(file)):
            raise bad(path, f"the package {name[:100]} has a file `{file[:100]}` with the sum `{text[:80]}`")
    if source == WHEELS and not hashes:
        raise bad(path, f"the package {name[:100]} travels beside the lock and has no sum")
    if without_credentials(source) != source and not source.startswith("https://github.com/"):
        raise bad(path, f"the package {name[:100]} has an address with credentials")


def _refuse_twice(path: Path, what: str, names: Iterable[str]) -> None:
    found = sorted(names)
    twice = [one for one, other in itertools.pairwise(found) if one == other]
    if twice:
        raise bad(path, f"{what} has `{twice[0][:100]}` twice")
