"""Bringing code to a commit in place. Files that git does not track stay; edits are never run over."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import clones, faults, fs
from comfygov.ports.git import Git, Source, recorded_source

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
        if git.head(checkout) is None and checkout.exists():
            found.append(f"{name}: {checkout} is there and is no git repository of its own: move it aside")
        else:
            found += [f"{name}: {line}" for line in _in_the_way(git, checkout, commit)]
    return [line.encode(errors="surrogateescape").decode(errors="replace") for line in found]


def _in_the_way(git: Git, checkout: Path, commit: str) -> Iterator[str]:
    """Edited files and collisions of one checkout and of its submodules, as far as they have to move."""
    if git.head(checkout) is None:
        return
    if git.head(checkout) != commit:
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
            "files that you edited stand in the way of this change",
            "commit, stash (`git stash -u`) or move them in the folder that is named, then run the command again",
            tuple(found[:20]),
        )


def fetch_missing(home: Home, git: Git, state: State) -> None:
    """Get the objects that `bring` will need, into the cache and the checkouts; no file changes. To be
    done before `obstacles`, which looks into the commits."""
    for _, checkout, source, commit in targets(home, state):
        if not clones.in_place(git, checkout, commit):
            clones.make_known(git, recorded_source(source), commit, checkout)


def bring(git: Git, checkout: Path, source: Source, commit: str, rescue: Path) -> bool:
    """Bring one checkout to `commit`; True when something changed.

    A kill may have left it between two commits. Whatever is neither the old nor the new content is the
    user's and is copied to `rescue` first.
    """
    if clones.in_place(git, checkout, commit):
        return False
    if git.head(checkout) is None:
        _place_beside(git, checkout, source, commit)
        return True
    # The home's lock is ours and its last holder is dead: nobody of ours is behind these files.
    for left_behind in (checkout / ".git").glob("*.lock"):
        left_behind.unlink()
    if not git.contains(checkout, commit):
        git.borrow(checkout, clones.ensure_cached(git, source, commit), commit)
    git.keep_own_commit(checkout, git.cache_of(source))
    _rescue_edits(git, checkout, commit, rescue)
    faults.point("checkout.moving")
    git.checkout(checkout, commit)
    faults.point("checkout.moved")
    clones.place_submodules(git, source, checkout, commit, checkout, shared=False)
    return True


def _place_beside(git: Git, checkout: Path, source: Source, commit: str) -> None:
    clones.ensure_cached(git, source, commit)
    # ComfyUI never loads a name that ends in .disabled, whoever starts it.
    staging = checkout.with_name(f".{checkout.name}.staging.disabled")
    fs.remove_tree(staging)
    checkout.parent.mkdir(parents=True, exist_ok=True)
    clones.place(git, source, commit, staging)
    faults.point("checkout.staged")
    staging.rename(checkout)
    faults.point("checkout.placed")


def _rescue_edits(git: Git, checkout: Path, commit: str, rescue: Path) -> None:
    for name in git.edited(checkout):
        path = checkout / name
        if not path.is_file() or path.is_symlink():
            continue
        content = git.hash_file(checkout, name)
        if content not in (git.blob_of(checkout, "HEAD", name), git.blob_of(checkout, commit, name)):
            kept = rescue / checkout.name / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept)
