"""The code of a lock: ComfyUI and packs, from the object cache, else from where they came."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import clones, fs, git_apart, git_content
from comfygov.ports.git import Git, Source, recorded_source
from comfygov.truth.home import cache_root
from comfygov.versions import judging, overlay

_AT_ONCE = 4

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.version import LockedComfyUI, LockedNode, PatchedFile, VersionLock
    from comfygov.ops.context import Context


def codes(lock: VersionLock) -> Iterator[tuple[str, LockedComfyUI | LockedNode]]:
    yield "ComfyUI", lock.comfyui
    yield from ((node.name, node) for node in lock.custom_nodes)


def refuse_missing(context: Context, lock: VersionLock) -> None:
    """Offline: every commit must be in the object cache, or its repository on this machine."""
    missing = []
    for name, code in codes(lock):
        source = recorded_source(code.repo)
        here = source.local or code.repo.startswith(judging.CONTENT) or context.git.has_commit(source, code.commit)
        if not here:
            missing.append(f"{name} {code.commit[:10]} of {code.repo}")
    if missing:
        raise GovError(
            Code.NETWORK,
            f"{len(missing)} commits are not in the cache, and --offline asks no server",
            "clone without --offline, or from a bundle",
            tuple(missing),
        )


def gather(context: Context, lock: VersionLock) -> None:
    """Have every commit of the lock in the object cache: all that may ask a server."""
    for name, code in codes(lock):
        gather_one(context.git, name, code)


def gather_one(git: Git, name: str, code: LockedComfyUI | LockedNode) -> None:
    source = recorded_source(code.repo)
    if code.repo.startswith(judging.CONTENT):
        make_content(git, source, code)
    try:
        repository = clones.ensure_cached(git, source, code.commit)
    except GovError as error:
        error.message = f"{name}: {error.message}"
        raise
    tree = git.tree_of(repository, code.commit)
    if tree != code.tree:
        raise GovError(Code.BAD_CONFIG, f"{name}: commit {code.commit} has the tree {tree}, not {code.tree}", _AGAIN)


def place(context: Context, lock: VersionLock) -> None:
    """Make the checkouts at their commits with the edits of the lock on top, from the object cache alone."""
    place_one(context.git, lock.comfyui, context.home.comfyui)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        nodes = [
            pool.submit(place_one, context.git, node, context.home.custom_nodes / node.name)
            for node in lock.custom_nodes
        ]
    for node in nodes:
        node.result()


def place_one(git: Git, code: LockedComfyUI | LockedNode, target: Path) -> None:
    """One checkout at its commit, from the object cache, with the edits of the lock on top."""
    target.parent.mkdir(parents=True, exist_ok=True)
    clones.place_pack(git, recorded_source(code.repo), code.commit, target)
    overlay.put(git_apart.work_tree(target), code.patch)


_AGAIN = "take the lock again from where it was made"


def make_content(git: Git, source: Source, code: LockedComfyUI | LockedNode) -> None:
    """Have the commit of a pack that comes from nowhere in the object cache: its files are in the lock."""
    content = getattr(code, "content", ())
    if git.has_commit(source, code.commit):
        return
    commit, _ = commit_content(git, content)
    if commit != code.commit:
        raise GovError(Code.BAD_CONFIG, f"the content of {code.repo} gives {commit}, not {code.commit}", _AGAIN)


def commit_content(git: Git, content: tuple[PatchedFile, ...]) -> tuple[str, str]:
    """Put files as a commit without a past into the object cache; the same files give the same commit.

    Returns (commit, tree).
    """
    work = fs.beside(cache_root() / "git" / "content", "staging")
    fs.remove_tree(work)
    (work / "files").mkdir(parents=True)
    try:
        overlay.put(work / "files", content)
        commit, tree = git_content.store(git, work / "files", work / "repository")
        source = recorded_source(f"{judging.CONTENT}{tree}")
        git_content.into_cache(git, source, work / "repository")
    finally:
        fs.remove_tree(work)
    return commit, tree
