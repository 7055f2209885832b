"""The code of a lock for an image: each as a tar of its tree, and the list of what is in it."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from comfygov.delivery.image import gittree, tarball
from comfygov.errors import Code, GovError
from comfygov.model.image import IMAGE_SCHEMA, CodeEntry, CodeManifest, CodeTree
from comfygov.model.names import is_file_id
from comfygov.ops import version_code
from comfygov.ports import clones, fs
from comfygov.ports.git import recorded_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.version import LockedComfyUI, LockedNode, VersionLock
    from comfygov.ports.git import Git, Source

COMFYUI = "ComfyUI"
CODE_FILE = "code.tar"


def folder_of(name: str) -> str:
    """Where the code of ComfyUI or a pack lies in a context."""
    return "comfyui" if name == COMFYUI else f"packs/{name}"


def target_of(name: str) -> str:
    """Where a pack's code is unpacked, below the folder that holds ComfyUI."""
    return "ComfyUI/custom_nodes" if is_file_id(name) else f"ComfyUI/custom_nodes/{name}"


def put(git: Git, lock: VersionLock, context: Path, scratch: Path) -> CodeManifest:
    """Write `comfyui/code.tar` and `packs/NAME/code.tar`; what is not in the object cache comes from its repository."""
    found = {}
    packs = [name for name, _ in codes(lock)][1:]
    if COMFYUI in packs:
        message = f"a pack that is named {COMFYUI} cannot be part of an image, where this is the name of ComfyUI"
        raise GovError(Code.USAGE, message, f"gov node disable {COMFYUI}, then gov version create")
    for name, code in codes(lock):
        place = scratch / "code"
        version_code.gather_one(git, name, code)
        version_code.place_one(git, code, place)
        if name == COMFYUI:
            _refuse_links(place, packs)
        edited = {file.path for file in code.patch}
        trees = tuple(_trees(git, recorded_source(code.repo), code.commit, place, edited))
        problems = [*gittree.unproven(trees, code.tree), *differences(place, name, code, trees)]
        if problems:
            message = f"{name}: its checkout is not what the lock says"
            raise GovError(Code.TOOL_FAILED, message, "run it again", tuple(problems))
        target = context / folder_of(name) / CODE_FILE
        target.parent.mkdir(parents=True)
        tarball.write(place, target, only=name if is_file_id(name) else None)
        fs.remove_tree(place)
        found[name] = trees
    return CodeManifest(IMAGE_SCHEMA, found)


def _refuse_links(comfyui: Path, packs: list[str]) -> None:
    """The build unpacks a pack as root, and where a link leads lies what proves the image."""
    for name in ("", *(name for name in packs if not is_file_id(name))):
        path = comfyui / "custom_nodes" / name
        if path.is_symlink():
            link = path.relative_to(comfyui)
            message = f"ComfyUI's {link} is a symbolic link, and a pack would be unpacked where it leads"
            raise GovError(Code.BAD_CONFIG, message, f"make {link} a folder, then gov version create")


def codes(lock: VersionLock) -> Iterator[tuple[str, LockedComfyUI | LockedNode]]:
    """ComfyUI and the packs that an image loads: a disabled one is no part of it."""
    yield COMFYUI, lock.comfyui
    yield from ((node.name, node) for node in lock.custom_nodes if node.enabled)


def differences(
    folder: Path,
    name: str,
    code: LockedComfyUI | LockedNode,
    trees: tuple[CodeTree, ...],
    leave: frozenset[str] = frozenset(),
) -> list[str]:
    """What in `folder` is not as the trees and the edits of the lock say."""
    wanted = gittree.expected(trees, code.patch)
    if is_file_id(name):
        return gittree.differences(folder, {name: wanted[name]} if name in wanted else {}, others=False)
    repositories = {f"{tree.place}/.git".lstrip("/") for tree in trees}
    return gittree.differences(folder, wanted, leave=leave | repositories)


def _trees(
    git: Git, source: Source, commit: str, checkout: Path, edited: set[str], place: str = ""
) -> Iterator[CodeTree]:
    """The tree of a checkout and of its submodules. `checkout` is the top one's, `place` where this one lies in it."""
    repository = git.cache_of(source)
    listed = git.read(["ls-tree", "-r", "-z", "--full-tree", commit], repository, exact=True).split("\0")
    entries = tuple(_entry(line, checkout, place, edited) for line in listed if line)
    yield CodeTree(commit, entries, place, _object(git, repository, commit) if place else "")
    for path, url, inner in git.submodules(repository, commit):
        below = f"{place}/{path}" if place else path
        if (checkout / below).is_dir():
            yield from _trees(git, clones.submodule_source(source, url), inner, checkout, edited, below)


def _object(git: Git, repository: Path, commit: str) -> str:
    text = git.read(["cat-file", "commit", commit], repository, exact=True)
    return base64.b64encode(text.encode(errors="surrogateescape")).decode()


def _entry(line: str, checkout: Path, place: str, edited: set[str]) -> CodeEntry:
    facts, _, path = line.partition("\t")
    mode, _, at = facts.split()
    whole = f"{place}/{path}" if place else path
    is_file = mode not in (gittree.SUBMODULE, gittree.LINK) and whole not in edited
    return gittree.named(path, mode, at, _written(checkout / whole, at) if is_file else "")


def _written(path: Path, at: str) -> str:
    """The sha256 of a file that git wrote in another way than it stores it; empty for all others."""
    if not path.is_file() or path.is_symlink():
        return ""
    content = path.read_bytes()
    return "" if gittree.object_id("blob", content, at) == at else hashlib.sha256(content).hexdigest()
