"""Bringing code to a commit in place. Files that git does not track stay; edits are never run over."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import clones, collisions, faults, fs, git_apart, git_work
from comfygov.ports.git import Git, Source, git_folder, recorded_source
from comfygov.ports.source import CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.state import ComfyUIPin
    from comfygov.truth.home import Home
    from comfygov.truth.snapshots import State


def targets(home: Home, state: State) -> Iterator[tuple[str, Path, str, str]]:
    """(name, checkout, source, commit) of ComfyUI and of every registered pack."""
    pin = state.declared.comfyui
    yield "ComfyUI", home.comfyui, pin.repo, pin.commit
    for plugin in state.registry.plugins:
        yield plugin.id, home.custom_nodes / plugin.entry, plugin.source, plugin.commit


def obstacles(home: Home, git: Git, state: State) -> list[str]:
    """What of the user's stands in the way of bringing the code to `state`; empty when nothing does."""
    found: list[str] = []
    for name, checkout, source, commit in targets(home, state):
        if checkout.is_symlink() and git.head(checkout) != commit:
            found.append(f"{name}: {checkout} is a link, and what it leads to is not changed: move it aside")
        elif git.head(checkout) is None and checkout.exists():
            found.append(f"{name}: {checkout} is there and is no git repository of its own: move it aside")
        else:
            found += [f"{name}: {line}" for line in _in_the_way(git, checkout, recorded_source(source), commit)]
    return [line.encode(errors="surrogateescape").decode(errors="replace") for line in found]


def _in_the_way(git: Git, checkout: Path, source: Source, commit: str) -> Iterator[str]:
    """Edited files and collisions of one checkout and of its submodules, as far as they have to move."""
    at = git.head(checkout)
    if at is None or clones.in_place(git, checkout, commit):
        return
    if at != commit:
        yield from _own_work(git, checkout)
    if not git.contains(checkout, commit):
        return
    yield from map(_explained, collisions.collisions(git, checkout, source, commit))
    for gone in _leaving(git, checkout, source, commit):
        yield from (f"{gone.path}/{line}" for line in _everything_of(git, gone))
    for path, url, sub_commit in git.submodules(checkout, commit):
        inner = _in_the_way(git, checkout / path, clones.submodule_source(source, url), sub_commit)
        yield from (f"{path}/{line}" for line in inner)


def _own_work(git: Git, checkout: Path) -> Iterator[str]:
    yield from (f"{path} (a git command is at work; if none is, remove this file)" for path in _locks(checkout))
    yield from (f"{file} (edited)" for file in git.edited(checkout))


def _explained(hit: str) -> str:
    if hit.endswith("/.git"):
        return f"{hit.removesuffix('/.git')} (is a repository of your own, where the new commit has files)"
    return f"{hit} (would be overwritten)"


def _everything_of(git: Git, gone: _Gone) -> Iterator[str]:
    """What of the user's would go with a submodule that the new commit does not have."""
    yield from _own_work(git, gone.inside)
    if git_work.only_here(git, gone.inside, git.cache_of(gone.source), gone.commit):
        yield ".git (holds commits or a stash of yours, and the new commit has no such submodule)"
    for inner in _leaving(git, gone.inside, gone.source, None):
        yield from (f"{inner.path}/{line}" for line in _everything_of(git, inner))


@dataclass(frozen=True)
class _Gone:
    """A submodule that is there, and that the new commit does not have."""

    path: str
    inside: Path
    source: Source
    commit: str


def _leaving(git: Git, checkout: Path, source: Source, commit: str | None) -> list[_Gone]:
    """The submodules that are there and that `commit` (None: nothing) does not have."""
    at = git.head(checkout)
    if at is None or at == commit:
        return []
    staying = {path for path, _, _ in git.submodules(checkout, commit)} if commit else set()
    there = (
        _Gone(path, checkout / path, clones.submodule_source(source, url), sub_commit)
        for path, url, sub_commit in git.submodules(checkout, at)
        if path not in staying
    )
    return [gone for gone in there if os.path.lexists(gone.inside / ".git")]


def refuse_obstacles(home: Home, git: Git, state: State) -> None:
    found = obstacles(home, git, state)
    if found:
        raise GovError(
            Code.LOCAL_EDITS,
            "files of yours stand in the way of this change",
            "commit, stash (`git stash -u`) or move them in the folder that is named, then run the command again",
            tuple(found[:20]),
        )


def refuse_foreign(home: Home, git: Git, state: State, now: State | None) -> None:
    """Another repository in the place of ComfyUI or of a pack is not turned into it. `now` is what is governed.

    To be asked before `fetch_missing`, which writes objects into the checkouts.
    """
    governed = {checkout: commit for _, checkout, _, commit in targets(home, now)} if now else {}
    found = [
        f"{name}: {checkout}{' (paths.comfyui_dir in config.toml)' if checkout == home.comfyui else ''}"
        for name, checkout, source, commit in targets(home, state)
        if _is_foreign(git, checkout, recorded_source(source), commit, governed.get(checkout))
    ]
    if found:
        raise GovError(
            Code.LOCAL_EDITS,
            "what is there is another repository, or has commits that only it has: it is not made into this one",
            "move the folder that is named aside, or correct the setting, then run the command again",
            tuple(found),
        )


def _is_foreign(git: Git, checkout: Path, source: Source, commit: str, governed: str | None) -> bool:
    """A governed checkout may hold commits of its user's on top of what we know; a folder that is taken may not."""
    at = git.head(checkout)
    if at in (None, commit, governed) or git.has_commit(source, at):
        return False
    if git.cache_of(source).is_dir() and governed is None:
        return True
    return not (git_work.related(git, checkout, at, governed or commit) or git.origin(checkout) == source.public)


def refuse_no_comfyui(home: Home, git: Git, state: State) -> None:
    """A ComfyUI that is gone, or a setting that leads nowhere: a change of something else does not clone one."""
    refuse_lost_place(home, git, state)
    if not home.comfyui.exists():
        raise GovError(Code.NOT_COMFYUI, f"there is no ComfyUI at {home.comfyui}", "gov sync makes it anew")


def refuse_lost_place(home: Home, git: Git, state: State) -> None:
    """A ComfyUI outside of the home that is not there: a wrong setting, or a disk that is not mounted. A repair would
    make another one beside that which holds the person's outputs."""
    place, pin = os.path.realpath(home.comfyui), state.declared.comfyui
    if home.comfyui.exists() or place.startswith(f"{os.path.realpath(home.root)}/"):
        return
    leads = f"the link {home.comfyui}" if home.comfyui.is_symlink() else "paths.comfyui_dir in config.toml"
    raise GovError(
        Code.NOT_COMFYUI,
        f"there is no ComfyUI at {place}, where {leads} leads",
        f"correct that, or mount the disk; to have a new one there: {_made_anew(git, pin, place)}, then gov sync",
    )


def _made_anew(git: Git, pin: ComfyUIPin, place: str) -> str:
    """The command for another ComfyUI; of one that came from nowhere, the cache has the governed commits."""
    if os.path.realpath(pin.repo) != place:
        return shlex.join(["git", "clone", pin.repo, place])
    cache, inside = str(git.cache_of(recorded_source(pin.repo))), ["git", "-C", place]
    fetch = [*inside, "fetch", cache, f"refs/comfygov/keep/{pin.commit}"]
    return " && ".join(map(shlex.join, (["git", "init", place], fetch, [*inside, "checkout", "FETCH_HEAD"])))


def stand_again(home: Home, git: Git, state: State) -> None:
    """Packs without a `.git` whose repository in the home was lost: it is made anew, and what differs is an edit."""
    for plugin in state.registry.plugins:
        checkout, source = home.custom_nodes / plugin.entry, recorded_source(plugin.source)
        lost = plugin.source.startswith(CONTENT) and checkout.exists() and git.head(checkout) is None
        if lost and git.has_commit(source, plugin.commit):
            git_apart.stand(git, checkout, source, plugin.commit)


def fetch_missing(home: Home, git: Git, state: State) -> None:
    """Get the objects that `bring` will need, into the cache and the checkouts; no file changes. To be
    done before `obstacles`, which looks into the commits."""
    for _, checkout, source, commit in targets(home, state):
        if not clones.in_place(git, checkout, commit):
            clones.make_known(git, recorded_source(source), commit, checkout)


def bring(git: Git, checkout: Path, source: Source, commit: str, rescue: Path, other: str | None = None) -> bool:
    """Bring one checkout and all its submodules to `commit`; True when something changed.

    `other` is the other end of a move that was interrupted or failed: files may be of either commit then,
    whatever HEAD says. What is neither is the user's and is copied to `rescue` first.
    """
    was_moving = other is not None and other != commit and git.contains(checkout, other)
    if not was_moving and clones.in_place(git, checkout, commit):
        return False
    if git.head(checkout) is None:
        _place_beside(git, checkout, source, commit)
        return True
    if other is not None and not was_moving:
        other = commit
    _Move(git, rescue / checkout.name).to(checkout, source, commit, other)
    if not clones.in_place(git, checkout, commit):
        raise GovError(Code.TOOL_FAILED, f"{checkout} did not come to {commit[:10]}, submodules included", "gov sync")
    return True


@dataclass(frozen=True)
class _Move:
    """A checkout on its way, with its submodules. HEAD of each moves last, so that one that is killed is seen to be
    under way, and everything can be done again."""

    git: Git
    kept: Path

    def to(self, checkout: Path, source: Source, commit: str, other: str | None) -> None:
        git = self.git
        if other is not None:
            _remove_locks(checkout)
        if not git.contains(checkout, commit):
            git.borrow(checkout, clones.ensure_cached(git, source, commit), commit)
        if other not in (None, commit) or git.head(checkout) != commit:
            git.keep_own_commit(checkout, git.cache_of(source))
            _rescue(git, checkout, source, commit, self.kept, other)
            for gone in _leaving(git, checkout, source, commit):
                self._below(gone.path).away(gone, checkout, was_moving=other is not None)
            if other is not None:
                _remove_new_files(git, checkout, commit, other, self.kept)
            faults.point("checkout.moving")
            git.checkout(checkout, commit)
            faults.point("checkout.moved")
        ends = {path: sub_commit for path, _, sub_commit in git.submodules(checkout, other)} if other else {}
        for path, url, sub_commit in git.submodules(checkout, commit):
            inside = clones.submodule_folder(source, checkout, path)
            end = ends.get(path, sub_commit) if other else None
            self._below(path).submodule(inside, checkout, clones.submodule_source(source, url), sub_commit, end)

    def submodule(self, inside: Path, around: Path, source: Source, commit: str, other: str | None) -> None:
        git = self.git
        if not os.path.lexists(inside / ".git"):
            clones.place_repository(git, source, commit, inside, around)
        elif other in (None, commit) and clones.in_place(git, inside, commit):
            return
        self.to(inside, source, commit, other if other and git.contains(inside, other) else other and commit)

    def away(self, gone: _Gone, around: Path, *, was_moving: bool) -> None:
        """Take a submodule away that the new commit does not have. What git does not track in it stays."""
        git, checkout = self.git, gone.inside
        if was_moving:
            _remove_locks(checkout)
        for inner in _leaving(git, checkout, gone.source, None):
            self._below(inner.path).away(inner, checkout, was_moving=was_moving)
        if git.head(checkout) is not None:
            _rescue_edits(git, checkout, self.kept, ["HEAD"])
            if git_work.only_here(git, checkout, git.cache_of(gone.source), gone.commit):
                shutil.copytree(checkout / ".git", self.kept / ".git", symlinks=True, dirs_exist_ok=True)
        clones.remove_repository(git, checkout, around)

    def _below(self, path: str) -> _Move:
        return _Move(self.git, self.kept / path)


def _locks(checkout: Path) -> list[Path]:
    folder = git_folder(checkout)
    return sorted(folder.glob("*.lock")) if folder else []


def _remove_locks(checkout: Path) -> None:
    """What a git that died in a move of ours left: a move does not begin where somebody else's git works."""
    for left_behind in _locks(checkout):
        left_behind.unlink()


def _remove_new_files(git: Git, checkout: Path, commit: str, other: str, kept: Path) -> None:
    """Take away what a checkout of `other` that did not come to its end has written. It may also have been the
    user's, who had the same file: it is kept aside."""
    for name in git_work.new_files(git, checkout, commit, other):
        path = checkout / name
        if path.is_file() and not path.is_symlink() and not _is_in_repository(checkout, path):
            _keep(path, kept / name)
            path.unlink()


def _is_in_repository(checkout: Path, path: Path) -> bool:
    """True when a repository inside `checkout` is around the file: its own checkout looks after that."""
    inner = (parent for parent in path.parents if checkout in parent.parents)
    return any(os.path.lexists(parent / ".git") for parent in inner)


def _place_beside(git: Git, checkout: Path, source: Source, commit: str) -> None:
    clones.ensure_cached(git, source, commit)
    if checkout.suffix == ".py":
        clones.place_pack(git, source, commit, checkout)
        return
    # ComfyUI never loads a name that ends in .disabled, whoever starts it.
    staging = checkout.with_name(f".{checkout.name}.comfygov-staging.disabled")
    fs.remove_tree(staging)
    checkout.parent.mkdir(parents=True, exist_ok=True)
    clones.place(git, source, commit, staging)
    faults.point("checkout.staged")
    git_apart.leave(git, checkout)
    staging.rename(checkout)
    faults.point("checkout.placed")


def _rescue(git: Git, checkout: Path, source: Source, commit: str, kept: Path, other: str | None) -> None:
    """Copy aside what a checkout of `commit` would overwrite and nobody else has."""
    known = [end for end in ("HEAD", commit, other) if end]
    _rescue_edits(git, checkout, kept, known)
    for name in collisions.collisions(git, checkout, source, commit):
        if not _is_stored(git, checkout, name, known):
            _keep(checkout / name, kept / name)


def _rescue_edits(git: Git, checkout: Path, kept: Path, known: list[str]) -> None:
    """The same for edited files, and for what is in the index alone; `known` are the commits that stay at hand."""
    for name in git.edited(checkout):
        if not _is_stored(git, checkout, name, known):
            _keep(checkout / name, kept / name)
        staged = git_work.staged_blob(git, checkout, name)
        if staged and staged not in (git.blob_of(checkout, end, name) for end in known):
            git_work.write_staged(git, checkout, name, kept.with_name(f"{kept.name}.staged"))


def _is_stored(git: Git, checkout: Path, name: str, known: list[str]) -> bool:
    path = checkout / name
    content = git.hash_file(checkout, name) if path.is_file() and not path.is_symlink() else None
    return content is not None and content in (git.blob_of(checkout, end, name) for end in known)


def _keep(path: Path, kept: Path) -> None:
    if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()):
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, kept, follow_symlinks=False)
