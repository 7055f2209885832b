"""Where a commit stands in the history of its repository, as the object cache knows it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.ports.git import Git
    from comfygov.ports.source import Source

RefKind = Literal["default branch", "branch", "tag", "commit"]

_RELEASE = re.compile(r"v?\d+(\.\d+)+")


def kind_of(git: Git, source: Source, ref: str | None) -> RefKind:
    """What `ref`, which `Git.resolve` could resolve, is; tags come first there too."""
    if ref is None:
        return "default branch"
    repository, name = git.cache_of(source), ref.removeprefix("refs/")
    for kind, full in (("tag", f"tags/{ref}"), ("branch", f"heads/{ref}"), ("branch", name)):
        if git.ask(repository, "show-ref", "--verify", "--hash", f"refs/source/{full}") is not None:
            return "tag" if kind == "tag" or full.startswith("tags/") else "branch"
    return "commit"


def default_branch(git: Git, source: Source) -> str | None:
    """The name of the default branch. The cache knows its commit only: None when several others share that."""
    points = ("--points-at", "refs/source/HEAD", "--format=%(refname)", "refs/source/heads")
    listed = (git.ask(git.cache_of(source), "for-each-ref", *points) or "").split()
    names = [line.removeprefix("refs/source/heads/") for line in listed]
    usual = [name for name in names if name in ("main", "master")]
    if usual or len(names) == 1:
        return min(usual or names)
    return None


def distance(git: Git, source: Source, old: str, new: str) -> tuple[int, int] | None:
    """(commits that only `old` has, commits that only `new` has); None where git cannot tell."""
    repository = git.cache_of(source)
    if git.ask(repository, "rev-parse", "--is-shallow-repository") != "false":
        return None
    counted = git.ask(repository, "rev-list", "--count", "--left-right", f"{old}...{new}", "--")
    if counted is None:
        return None
    ahead, behind = counted.split()
    return int(ahead), int(behind)


def newest_release(git: Git, source: Source) -> tuple[str, str] | None:
    """The release tag with the highest version, and its commit; None where there are no such tags."""
    repository = git.cache_of(source)
    by_version = ("--sort=-version:refname", "--format=%(refname)", "refs/source/tags")
    listed = (git.ask(repository, "for-each-ref", *by_version) or "").split()
    tags = [line.removeprefix("refs/source/tags/") for line in listed]
    for tag in filter(_RELEASE.fullmatch, tags):
        commit = git.ask(repository, "rev-parse", "--verify", "--quiet", f"refs/source/tags/{tag}^{{commit}}")
        if commit:
            return tag, commit
    return None


def includes(git: Git, source: Source, commit: str, older: str) -> bool:
    """True when the history of `commit` holds `older`."""
    return git.ask(git.cache_of(source), "merge-base", "--is-ancestor", older, commit) is not None


def before_changes_of(git: Git, repository: Path, commit: str, files: Sequence[str], limit: int) -> list[str]:
    """The commits just before each of the last `limit` changes of `files`, newest first."""
    arguments = ["log", f"--max-count={limit}", "--format=%P", "--full-history", "--end-of-options", commit, "--"]
    listed = git.read([*arguments, *files], repository).splitlines()
    return list(dict.fromkeys(line.split()[0] for line in listed if line))


def count_between(git: Git, repository: Path, older: str, newer: str) -> int:
    """How many commits `newer` has that `older` has not."""
    said = git.read(["rev-list", "--count", "--end-of-options", f"{older}..{newer}"], repository)
    return int(said or 0)


def described(git: Git, repository: Path, commit: str) -> str:
    """The tag of a commit, else its first ten letters."""
    names = git.read(
        ["for-each-ref", "--count=1", f"--points-at={commit}", "--format=%(refname)", "refs/source/tags"], repository
    )
    return names.strip().removeprefix("refs/source/tags/") or commit[:10]


def committed_at(git: Git, repository: Path, commit: str) -> str:
    """When a commit was made (RFC 3339, UTC)."""
    # Not `git log` or `git show`: they read the parents, which a clone that was cut off lacks.
    said = git.read(["cat-file", "commit", commit], repository)
    seconds = re.search(r"^committer .* (\d+) [+-]\d{4}$", said, re.MULTILINE)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds[1]))) if seconds else ""
