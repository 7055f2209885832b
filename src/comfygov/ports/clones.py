"""Whole checkouts, submodules included, made from the object cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import faults, fs, git_apart
from comfygov.ports.git import Git, Source, git_folder, parse_source

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SUBMODULE_DEPTH = 5


def ensure_cached(git: Git, source: Source, commit: str, depth: int = 0) -> Path:
    """The cache repository of `source`, with `commit` and its submodules in it."""
    if not git.has_commit(source, commit):
        git.fetch(source)
        git.resolve(source, commit)
    git.keep(source, commit)
    repository = git.cache_of(source)
    if depth < MAX_SUBMODULE_DEPTH:
        for _, url, sub_commit in git.submodules(repository, commit):
            ensure_cached(git, submodule_source(source, url), sub_commit, depth + 1)
    return repository


def submodule_source(parent: Source, url: str) -> Source:
    """The source of a submodule; a relative URL starts at the parent's (git's own rule).

    A pack from elsewhere may not name a folder of this machine (compare CVE-2022-39253).
    """
    if url.startswith(("./", "../")):
        base = parent.fetch_url.rstrip("/")
        while url.startswith(("./", "../")):
            step = 3 if url.startswith("../") else 2
            base = _parent_of(base) if step == 3 else base
            url = url[step:]
        url = f"{base}{url}" if base.endswith(":") else f"{base}/{url}"
    source = parse_source(url, Path("/"))
    if source.local and not parent.local:
        raise GovError(Code.BAD_SOURCE, f"{parent.public} has a submodule that names a folder of this machine")
    return source


def _parent_of(base: str) -> str:
    """`https://host/a/b` -> `https://host/a`; `git@host:a` -> `git@host:`."""
    if "/" in base.partition("://")[2] or ("://" not in base and "/" in base):
        return base.rpartition("/")[0]
    head, colon, _ = base.rpartition(":")
    return f"{head}:" if colon and "://" not in base else ""


def place(git: Git, source: Source, commit: str, target: Path, *, shared: bool = False) -> None:
    """Make a new checkout of `commit` at `target`, submodules included. Half of one is removed."""
    if target.is_symlink() or (target.exists() and any(target.iterdir())):
        raise GovError(Code.LOCAL_EDITS, f"{target} is in the way: it is not empty", "move it aside")
    repository = git.cache_of(source)
    try:
        git.clone(repository, target, commit, source.public, shared=shared)
        place_submodules(git, source, repository, commit, target, shared=shared)
    except BaseException:
        fs.remove_tree(target)
        raise


def place_pack(git: Git, source: Source, commit: str, target: Path, *, shared: bool = False) -> None:
    """The same for a pack, which may be a single file; the repository of one stands apart."""
    if target.suffix != ".py":
        place(git, source, commit, target, shared=shared)
        git_apart.leave(git, target)
        return
    staging = fs.beside(target.with_suffix(".disabled"), "staging")
    fs.remove_tree(staging)
    try:
        place(git, source, commit, staging, shared=True)
        (staging / target.name).rename(target)
    finally:
        fs.remove_tree(staging)
    if not shared:
        git_apart.stand(git, target, source, commit)


def in_place(git: Git, checkout: Path, commit: str) -> bool:
    """True when the checkout and all its submodules are at their commits: git moves HEAD last."""
    if git.head(checkout) != commit:
        return False
    if not (checkout / ".gitmodules").is_file():
        return True
    return all(in_place(git, checkout / path, sub) for path, _, sub in git.submodules(checkout, commit))


def make_known(git: Git, source: Source, commit: str, checkout: Path) -> None:
    """Make `commit` and the commits of its submodules known in a checkout; no file of it changes."""
    if git.head(checkout) is None:
        ensure_cached(git, source, commit)
        return
    if not git.contains(checkout, commit):
        git.borrow(checkout, ensure_cached(git, source, commit), commit)
    for path, url, sub_commit in git.submodules(checkout, commit):
        make_known(git, submodule_source(source, url), sub_commit, checkout / path)


def place_submodules(git: Git, source: Source, repository: Path, commit: str, target: Path, *, shared: bool) -> None:
    """Make the submodules of a checkout in which nothing else is yet."""
    for path, url, sub_commit in git.submodules(repository, commit):
        inside = submodule_folder(source, target, path)
        if inside.is_dir() and not any(inside.iterdir()):
            inside.rmdir()
        place(git, submodule_source(source, url), sub_commit, inside, shared=shared)


def submodule_folder(source: Source, checkout: Path, path: str) -> Path:
    """Where a submodule lies; a link on the way could lead anywhere."""
    inside = checkout / path
    if checkout.resolve() not in inside.resolve().parents:
        raise GovError(Code.BAD_SOURCE, f"submodule `{path}` of {source.public} leaves its repository")
    return inside


def place_repository(git: Git, source: Source, commit: str, inside: Path, around: Path) -> None:
    """Put a repository that knows `commit`, and is at none yet, into a folder that may hold files. `around` is the
    checkout that this becomes a submodule of."""
    staging = _under_way(around, "staging")
    git.clone_without_files(ensure_cached(git, source, commit), staging, commit, source.public)
    faults.point("submodule.staged")
    inside.mkdir(parents=True, exist_ok=True)
    fs.move_tree(staging / ".git", inside / ".git")
    faults.point("submodule.placed")
    fs.remove_tree(staging)


def remove_repository(git: Git, inside: Path, around: Path) -> None:
    """Take away what git tracks in a submodule of `around`, and its repository; other files stay."""
    git.leave_commit(inside)
    faults.point("submodule.leaving")
    git.remove_tracked(inside)
    faults.point("submodule.emptied")
    doomed = _under_way(around, "doomed")
    fs.move_tree(inside / ".git", doomed)
    faults.point("submodule.gone")
    fs.remove_tree(doomed)
    if inside.is_dir() and not any(inside.iterdir()):
        inside.rmdir()


def _under_way(around: Path, purpose: str) -> Path:
    """A name in the git folder of a checkout; what killed commands left under such names goes."""
    folder = git_folder(around)
    if folder is None:
        raise GovError(Code.TOOL_FAILED, f"{around} has lost its `.git`", "gov sync")
    for left_behind in folder.glob(".submodule.*.comfygov-*"):
        fs.remove_tree(left_behind)
    return fs.beside(folder / "submodule", purpose)


def caches_of(git: Git, source: Source, commit: str, depth: int = 0) -> Iterator[Path]:
    """The cache repositories that hold `commit` of `source` and its submodules."""
    repository = git.cache_of(source)
    yield repository
    if depth < MAX_SUBMODULE_DEPTH and git.has_commit(source, commit):
        for _, url, sub_commit in git.submodules(repository, commit):
            yield from caches_of(git, submodule_source(source, url), sub_commit, depth + 1)
