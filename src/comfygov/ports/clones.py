"""Whole checkouts, submodules included, made from the object cache."""

from __future__ import annotations

from pathlib import Path

from comfygov.errors import Code, GovError
from comfygov.ports import fs
from comfygov.ports.git import Git, Source, parse_source

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
    """The source of a submodule; a relative URL starts at the parent's (git's own rule)."""
    if url.startswith(("./", "../")):
        base = parent.fetch_url.rstrip("/")
        while url.startswith(("./", "../")):
            if url.startswith("../"):
                base = base.rpartition("/")[0]
                url = url[3:]
            else:
                url = url[2:]
        url = f"{base}/{url}"
    return parse_source(url, Path("/"))


def place(git: Git, source: Source, commit: str, target: Path, *, shared: bool = False) -> None:
    """Make a new checkout of `commit` at `target`, submodules included. Half of one is removed."""
    repository = git.cache_of(source)
    try:
        git.clone(repository, target, commit, source.public, shared=shared)
        place_submodules(git, source, repository, commit, target, shared=shared)
    except BaseException:
        fs.remove_tree(target)
        raise


def place_submodules(git: Git, source: Source, repository: Path, commit: str, target: Path, *, shared: bool) -> None:
    for path, url, sub_commit in git.submodules(repository, commit):
        inside = target / path
        if target.resolve() not in inside.resolve().parents:
            raise GovError(Code.BAD_SOURCE, f"submodule `{path}` of {source.public} leaves its repository")
        if git.head(inside) == sub_commit:
            continue
        sub_source = submodule_source(source, url)
        if git.head(inside) is None:
            if inside.is_dir() and not any(inside.iterdir()):
                inside.rmdir()
            place(git, sub_source, sub_commit, inside, shared=shared)
        else:
            git.borrow(inside, git.cache_of(sub_source), sub_commit)
            git.checkout(inside, sub_commit)
