"""What of a person's a checkout would write over: found on the disk itself, for git sees nothing of what lies in
a repository inside another."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from comfygov.ports import clones, git_work
from comfygov.ports.git_files import has_content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.ports.git import Git, Source
    from comfygov.ports.git_work import Entry


def collisions(git: Git, checkout: Path, source: Source, commit: str) -> list[str]:
    """What is there, is not tracked, differs from the commit, and stands where `commit` has something new. A
    repository of the person's own in such a place is its `.git`.

    The commits of submodules that are not there yet are looked at too; they lie in the object cache.
    """
    at = git.head(checkout)
    if at == commit:
        new = []
    else:
        new = git_work.new_entries(git, checkout, at, commit) if at else git_work.entries(git, checkout, commit)
    look = _Look(git, checkout, at)
    found = {hit for entry in new for hit in look.hits(entry)}
    for path, url, sub_commit in git.submodules(checkout, commit):
        if not os.path.lexists(checkout / path / ".git"):
            inside = _to_be_placed(git, clones.submodule_source(source, url), sub_commit, f"{path}/")
            found |= {hit for entry in inside for hit in look.hits(entry)}
    return sorted(found)


def _to_be_placed(git: Git, source: Source, commit: str, below: str) -> Iterator[Entry]:
    repository = git.cache_of(source)
    yield from git_work.entries(git, repository, commit, below)
    for path, url, sub_commit in git.submodules(repository, commit):
        yield from _to_be_placed(git, clones.submodule_source(source, url), sub_commit, f"{below}{path}/")


class _Look:
    """One checkout, at one commit (None: at none yet)."""

    def __init__(self, git: Git, checkout: Path, at: str | None) -> None:
        self.git, self.checkout, self.at = git, checkout, at
        self.inner: dict[str, _Look] = {}

    @cached_property
    def submodules(self) -> set[str]:
        return {path for path, _, _ in self.git.submodules(self.checkout, self.at)} if self.at else set()

    def hits(self, entry: Entry) -> Iterator[str]:
        """What stands where `entry` is to be, or in the place of a folder above it."""
        parts = entry.name.split("/")
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            path = self.checkout / here
            if not os.path.lexists(path):
                return
            if path.is_symlink() or not path.is_dir():
                if here != entry.name or not has_content(path, entry.content):
                    yield from self.untracked(here)
                return
            if os.path.lexists(path / ".git"):
                yield from self._in_repository(here, entry)
                return
            if here in self.submodules:
                yield from _there(self.checkout, entry)  # git does not look into the folder of a submodule
                return
        if not entry.is_submodule:
            yield from self.untracked(entry.name)

    def _in_repository(self, here: str, entry: Entry) -> Iterator[str]:
        """Inside a submodule of ours only what it does not track stands in the way; any other is the person's."""
        if here not in self.submodules:
            yield f"{here}/.git"
            yield from _there(self.checkout, entry)
        elif here == entry.name:
            yield from self.untracked(here)
        else:
            rest = type(entry)(entry.name[len(here) + 1 :], entry.content, entry.is_submodule)
            yield from (f"{here}/{hit}" for hit in self._look_into(here).hits(rest))

    def _look_into(self, here: str) -> _Look:
        if here not in self.inner:
            path = self.checkout / here
            self.inner[here] = _Look(self.git, path, self.git.head(path))
        return self.inner[here]

    def untracked(self, name: str = "") -> Iterator[str]:
        """What below `name` (all, when there is none) is not tracked, in submodules as well."""
        if name not in self.submodules:
            yield from git_work.untracked(self.git, self.checkout, name)
        below = f"{name}/" if name else ""
        for inner in sorted(path for path in self.submodules if f"{path}/".startswith(below)):
            if os.path.lexists(self.checkout / inner / ".git"):
                yield from (f"{inner}/{hit}" for hit in self._look_into(inner).untracked())
            else:
                yield from _files_below(self.checkout, inner)


def _there(checkout: Path, entry: Entry) -> Iterator[str]:
    """`entry` itself, or what is below it or in the place of a folder above it, when it is other content."""
    path = checkout / entry.name
    while not os.path.lexists(path):
        path = path.parent
    if path.is_dir() and not path.is_symlink():
        if path == checkout / entry.name and not entry.is_submodule:
            yield from _files_below(checkout, entry.name)
    elif path != checkout / entry.name or not has_content(path, entry.content):
        yield path.relative_to(checkout).as_posix()


def _files_below(checkout: Path, name: str) -> Iterator[str]:
    for folder, folders, files in os.walk(checkout / name):
        if ".git" in folders:
            folders.remove(".git")
        for file in files:
            yield os.path.relpath(os.path.join(folder, file), checkout)  # noqa: PTH118
