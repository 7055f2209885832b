"""What a repository's history tells: earlier states, distances, names of commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.ports.git import Git


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
    import time

    seconds = int(git.read(["show", "--no-patch", "--format=%ct", "--end-of-options", commit], repository))
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
