"""Bringing code to a commit in place. Files that git does not track stay; edits are never run over."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import clones, faults, fs
from comfygov.ports.git import Git, Source, git_folder, recorded_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.truth.home import Home
    from comfygov.truth.snapshots import State


def targets(home: Home, state: State) -> Iterator[tuple[str, Path, str, str]]:
    """(name, checkout, source, commit) of ComfyUI and of every registered pack."""
    pin = state.declared.comfyui
    yield "ComfyUI", home.comfyui, pin.repo, pin.commit
    for plugin in state.registry.plugins:
        yield plugin.id, home.custom_nodes / plugin.id, plugin.source, plugin.commit


def obstacles(home: Home, git: Git, state: State) -> list[str]:
    """What of the user's stands in the way of bringing the code to `state`; empty when nothing does."""
    found: list[str] = []
    for name, checkout, _, commit in targets(home, state):
        if checkout.is_symlink() and git.head(checkout) != commit:
            found.append(f"{name}: {checkout} is a link, and what it leads to is not changed: move it aside")
        elif git.head(checkout) is None and checkout.exists():
            found.append(f"{name}: {checkout} is there and is no git repository of its own: move it aside")
        else:
            found += [f"{name}: {line}" for line in _in_the_way(git, checkout, commit)]
    return [line.encode(errors="surrogateescape").decode(errors="replace") for line in found]


def _in_the_way(git: Git, checkout: Path, commit: str) -> Iterator[str]:
    """Edited files and collisions of one checkout and of its submodules, as far as they have to move."""
    if git.head(checkout) is None:
        return
    if git.head(checkout) != commit:
        yield from (f"{path} (a git command is at work; if none is, remove this file)" for path in _locks(checkout))
        yield from (f"{file} (edited)" for file in git.edited(checkout))
        if git.contains(checkout, commit):
            yield from (f"{file} (would be overwritten)" for file in git.collisions(checkout, commit))
    if git.contains(checkout, commit):
        for path, _, sub_commit in git.submodules(checkout, commit):
            yield from (f"{path}/{line}" for line in _in_the_way(git, checkout / path, sub_commit))


def refuse_obstacles(home: Home, git: Git, state: State) -> None:
    found = obstacles(home, git, state)
    if found:
        raise GovError(
            Code.LOCAL_EDITS,
            "files of yours stand in the way of this change",
            "commit, stash (`git stash -u`) or move them in the folder that is named, then run the command again",
            tuple(found[:20]),
        )


def fetch_missing(home: Home, git: Git, state: State) -> None:
    """Get the objects that `bring` will need, into the cache and the checkouts; no file changes. To be
    done before `obstacles`, which looks into the commits."""
    for _, checkout, source, commit in targets(home, state):
        if not clones.in_place(git, checkout, commit):
            clones.make_known(git, recorded_source(source), commit, checkout)


def bring(git: Git, checkout: Path, source: Source, commit: str, rescue: Path, other: str | None = None) -> bool:
    """Bring one checkout to `commit`; True when something changed.

    `other` is the other end of a move that was interrupted or failed: files may be of either commit then,
    whatever HEAD says. What is neither is the user's and is copied to `rescue` first.
    """
    was_moving = other is not None and other != commit and git.contains(checkout, other)
    if not was_moving and clones.in_place(git, checkout, commit):
        return False
    if git.head(checkout) is None:
        _place_beside(git, checkout, source, commit)
        return True
    if was_moving:
        _remove_locks(git, checkout, commit)
    if not git.contains(checkout, commit):
        git.borrow(checkout, clones.ensure_cached(git, source, commit), commit)
    git.keep_own_commit(checkout, git.cache_of(source))
    kept = rescue / checkout.name
    _rescue(git, checkout, commit, kept, other)
    if was_moving and other is not None:
        _remove_new_files(git, checkout, commit, other, kept)
    faults.point("checkout.moving")
    git.checkout(checkout, commit)
    faults.point("checkout.moved")
    for path, _, sub_commit in git.submodules(checkout, commit):
        if git.head(checkout / path) not in (None, sub_commit) and git.contains(checkout / path, sub_commit):
            _rescue(git, checkout / path, sub_commit, kept / path, None)
    clones.place_submodules(git, source, checkout, commit, checkout, shared=False)
    return True


def _locks(checkout: Path) -> list[Path]:
    folder = git_folder(checkout)
    return sorted(folder.glob("*.lock")) if folder else []


def _remove_locks(git: Git, checkout: Path, commit: str) -> None:
    """What a git that died in a move of ours left: a move does not begin where somebody else's git works."""
    for left_behind in _locks(checkout):
        left_behind.unlink()
    if git.contains(checkout, commit):
        for path, _, sub_commit in git.submodules(checkout, commit):
            _remove_locks(git, checkout / path, sub_commit)


def _remove_new_files(git: Git, checkout: Path, commit: str, other: str, kept: Path) -> None:
    """Take away what a checkout of `other` that did not come to its end has written. It may also have been the
    user's, who had the same file: it is kept aside."""
    for name in git.new_files(checkout, commit, other):
        path = checkout / name
        if path.is_file() and not path.is_symlink():
            _keep(path, kept / name)
            path.unlink()


def _place_beside(git: Git, checkout: Path, source: Source, commit: str) -> None:
    clones.ensure_cached(git, source, commit)
    # ComfyUI never loads a name that ends in .disabled, whoever starts it.
    staging = checkout.with_name(f".{checkout.name}.comfygov-staging.disabled")
    fs.remove_tree(staging)
    checkout.parent.mkdir(parents=True, exist_ok=True)
    clones.place(git, source, commit, staging)
    faults.point("checkout.staged")
    staging.rename(checkout)
    faults.point("checkout.placed")


def _rescue(git: Git, checkout: Path, commit: str, kept: Path, other: str | None) -> None:
    """Copy aside what a checkout of `commit` would overwrite and nobody else has."""
    for name in git.edited(checkout):
        path = checkout / name
        content = git.hash_file(checkout, name) if path.is_file() and not path.is_symlink() else None
        stored = (git.blob_of(checkout, known, name) for known in ("HEAD", commit, other) if known)
        if content is None or content not in stored:
            _keep(checkout / name, kept / name)
    for name in git.collisions(checkout, commit):
        _keep(checkout / name, kept / name)


def _keep(path: Path, kept: Path) -> None:
    if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()):
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, kept, follow_symlinks=False)
