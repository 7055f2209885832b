"""What a person has done in a checkout: edits of tracked files, staged or not, and work that only it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.ports.git_files import git_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.ports.git import Git

SUBMODULE_MODE = "160000"


@dataclass(frozen=True)
class Entry:
    """One path of a commit: a file with its blob, or a submodule with its commit."""

    name: str
    content: str
    is_submodule: bool


def edited(git: Git, checkout: Path) -> list[str]:
    """Tracked files of which the work tree or the index holds other content than the commit that is checked out."""
    arguments = ["status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all", "--no-renames"]
    lines = [line for line in git.read(arguments, checkout).split("\0") if line]
    shown = {line[3:] for line in lines if line[0] != " " or not _is_as_stored(git, checkout, line[3:])}
    return sorted(shown | set(_hidden_edits(git, checkout)))


def _is_as_stored(git: Git, checkout: Path, name: str) -> bool:
    """git also shows files that it checked out itself, when their attributes would store them otherwise
    (CRLF behind `* text`)."""
    path = checkout / name
    if path.is_symlink() or not path.is_file():
        return False
    return git.hash_file(checkout, name, filters=False) == git.blob_of(checkout, "HEAD", name)


def _hidden_edits(git: Git, checkout: Path) -> Iterator[str]:
    """Edits that git does not show, because somebody told it not to look (skip-worktree, assume-unchanged)."""
    for entry in git.read(["ls-files", "-v", "-z"], checkout).split("\0"):
        tag, _, name = entry.partition(" ")
        hidden = (tag == "S" or tag.islower()) and (checkout / name).is_file()
        if hidden and git.hash_file(checkout, name) != git.blob_of(checkout, "HEAD", name):
            yield name


def new_entries(git: Git, checkout: Path, before: str, after: str) -> list[Entry]:
    """What `after` has where `before` has nothing, or something of another kind (file, link, submodule)."""
    # Said aloud: a pack's own .gitmodules may say `ignore = all`, which hides its submodules from every diff.
    arguments = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none", "--diff-filter=AT"]
    fields = git.read([*arguments, before, after, "--"], checkout).split("\0")[:-1]
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [Entry(name, raw.split()[3], raw.split()[1] == SUBMODULE_MODE) for raw, name in pairs]


def new_files(git: Git, checkout: Path, before: str, after: str) -> list[str]:
    """Files that `after` has and `before` has not."""
    arguments = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--ignore-submodules=all", "--diff-filter=A"]
    return [name for name in git.read([*arguments, before, after, "--"], checkout).split("\0") if name]


def entries(git: Git, repository: Path, commit: str, below: str = "") -> list[Entry]:
    """All of `commit`; its names put behind `below`."""
    listed = git.read(["ls-tree", "-r", "-z", "--full-tree", commit], repository).split("\0")[:-1]
    split = ((line.partition("\t")[0].split(), line.partition("\t")[2]) for line in listed)
    return [Entry(below + name, content, mode == SUBMODULE_MODE) for (mode, _, content), name in split]


def untracked(git: Git, checkout: Path, name: str = "") -> list[str]:
    """`name`, or what is below it, as far as git does not track it. A repository of its own is its `.git`; what is
    in a submodule is not looked at."""
    only = ["--", f":(literal){name}"] if name else []
    listed = git.read(["ls-files", "-z", "--others", *only], checkout).split("\0")
    return [f"{found}.git" if found.endswith("/") else found for found in listed if found]


def only_here(git: Git, checkout: Path, repository: Path, pinned: str) -> bool:
    """True when deleting the repository of `checkout` loses a stash, or commits other than the `pinned` one that
    were never taken from or brought to a remote."""
    folder = git_folder(checkout)
    if folder is None or folder != checkout / ".git":
        return False  # a `.git` file: the repository lies in the one around it, and stays there
    if git.has_stash(checkout):
        return True
    own = git.read(["for-each-ref", "--format=%(objectname)", "refs/heads", "refs/comfygov/yours"], checkout).split()
    unknown = [
        commit for commit in {*own, git.head(checkout) or ""} - {"", pinned} if not git.contains(repository, commit)
    ]
    return any(not git.ask(checkout, "for-each-ref", "--count=1", "--contains", at, "refs/remotes") for at in unknown)


def related(git: Git, checkout: Path, one: str, other: str) -> bool:
    """True when two commits share history, as far as `checkout` knows it."""
    return git.ask(checkout, "merge-base", "--end-of-options", one, other) is not None


def staged_blob(git: Git, checkout: Path, name: str) -> str | None:
    """The blob that the index holds for `name`."""
    found = git.ask(checkout, "ls-files", "-s", "-z", "--", f":(literal){name}") or ""
    return match[1] if (match := re.match(r"1[02]\d{4} ([0-9a-f]+) 0\t", found)) else None


def write_staged(git: Git, checkout: Path, name: str, target: Path) -> None:
    """Write what the index holds for `name` below `target`."""
    target.mkdir(parents=True, exist_ok=True)
    git.read(["checkout-index", "--force", f"--prefix={target}/", "--", name], checkout)
