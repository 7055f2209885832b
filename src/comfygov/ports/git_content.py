"""A folder that comes from no repository, as a commit without a past: the same files give the same commit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.ports.git import Git, Source

_WHO = "comfygov <comfygov@localhost> 0 +0000"


def store(git: Git, folder: Path, scratch: Path, names: Sequence[str] | None = None) -> tuple[str, str]:
    """Make a bare repository of the files in `folder` (of `names` alone, where given) at `scratch`; nothing in
    `folder` is written. Returns (commit, tree)."""
    git.read(["init", "--quiet", "--bare", "--", str(scratch)], folder)
    ours = ["-c", "core.autocrlf=false", "--git-dir", str(scratch), "--work-tree", str(folder)]
    # Also what its .gitignore names, and as it stands: a clone must find the same bytes.
    (scratch / "info").mkdir(exist_ok=True)
    (scratch / "info" / "attributes").write_text("* -text -ident -filter\n")
    if names is None:
        git.read([*ours, "add", "--all", "--force", "--", "."], folder)
    elif names:
        listed = scratch / "comfygov-names"
        listed.write_bytes(b"\0".join(map(os.fsencode, names)))
        chosen = ["add", "--force", f"--pathspec-from-file={listed}", "--pathspec-file-nul"]
        git.read(["--literal-pathspecs", *ours, *chosen], folder)
    tree = git.read([*ours, "write-tree"], folder).strip()
    written = scratch / "comfygov-commit"
    written.write_text(f"tree {tree}\nauthor {_WHO}\ncommitter {_WHO}\n\ncontent\n")
    commit = git.read([*ours, "hash-object", "-t", "commit", "-w", "--", str(written)], folder).strip()
    for name in (f"refs/comfygov/keep/{commit}", "refs/source/HEAD"):
        git.read([*ours, "update-ref", name, commit], folder)
    return commit, tree


def into_cache(git: Git, source: Source, repository: Path) -> None:
    """Let the repository at `repository` be the cache of `source`, unless there is one."""
    cache = git.cache_of(source)
    if (cache / "config").is_file():
        fs.remove_tree(repository)
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    repository.rename(cache)
