"""Repositories that stand apart from their checkout: packs that people have without git are theirs to the last byte,
so that the `.git` which pins them lies in the home.

A checkout may also be a single file, whose work tree is then the folder around it.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from comfygov.ports import fs

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.ports.git import Git, Source

_IGNORED = "__pycache__/\n*.py[co]\n"


def repository_of(apart: Path | None, checkout: Path) -> Path | None:
    """The repository that stands apart from `checkout`, if there is one."""
    if apart is None or checkout.name.startswith(".comfygov"):
        return None
    found = _place(apart, checkout)
    return found if (found / "HEAD").is_file() else None


def work_tree(checkout: Path) -> Path:
    return checkout.parent if checkout.suffix == ".py" else checkout


def _place(apart: Path, checkout: Path) -> Path:
    """Named by where the checkout is in the home, so that both can be moved; else by its own path."""
    home, path = os.path.realpath(apart.parent.parent), os.path.realpath(checkout)
    known_as = os.path.relpath(path, home) if path.startswith(f"{home}/") else path
    return apart / f"{checkout.name}-{hashlib.sha256(known_as.encode(errors='surrogateescape')).hexdigest()[:12]}.git"


def stand(git: Git, checkout: Path, source: Source, commit: str) -> None:
    """Let `checkout`, of which nothing is written, be at `commit`, which the cache of `source` has."""
    if git.apart is None:
        raise ValueError("this git keeps no repositories apart")
    target = _place(git.apart, checkout)
    staging = fs.beside(target, "staging")
    fs.remove_tree(staging)
    git.apart.mkdir(parents=True, exist_ok=True)
    git.read(["init", "--quiet", "--bare", "--", str(staging)], git.apart)
    git.borrow(staging, git.cache_of(source), commit)
    (staging / "info").mkdir(exist_ok=True)
    # As the commit was made: the very bytes.
    (staging / "info" / "attributes").write_text("* -text -ident -filter\n")
    (staging / "info" / "exclude").write_text("*\n" if checkout.suffix == ".py" else _IGNORED)
    tree = work_tree(checkout)
    ours = ["-c", "core.bare=false", "--git-dir", str(staging), "--work-tree", str(tree)]
    git.read([*ours, "read-tree", commit], tree)
    git.ask(tree, *ours, "update-index", "-q", "--refresh")  # it says no where files are edited
    git.read(["config", "core.bare", "false"], staging)
    git.read(["--git-dir", str(staging), "update-ref", "--no-deref", "HEAD", commit], git.apart)
    fs.remove_tree(target)
    staging.rename(target)


def leave(git: Git, checkout: Path) -> None:
    """Forget the repository that stood apart: the checkout has one of its own now."""
    found = repository_of(git.apart, checkout)
    if found:
        fs.remove_tree(found)
