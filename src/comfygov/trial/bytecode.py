"""Bytecode for the private tree of a trial: without it every trial compiles all of ComfyUI again (2 s).

It is compiled by us from a fresh checkout and never taken from a tree in which a pack has run.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.ports import bytecode, fs

if TYPE_CHECKING:
    from collections.abc import Iterator

_CACHE_FOLDER = "__pycache__"


@dataclass(frozen=True)
class BytecodeCache:
    """`root` holds a directory for each (commit, Python build); `python` is an interpreter of that build."""

    root: Path
    build: str
    python: str

    def lay_in(self, tree: Path, commit: str, *, without: str = "") -> None:
        """Give the fresh checkout `tree` of `commit` its bytecode, but for the folder `without`.

        One that brings bytecode is left as it is: Python runs that in place of the source, in production too, and a
        link in its place would have ours written elsewhere.
        """
        if any(_folders(tree, without)):
            return
        cached = self.root / f"{commit}-{self.build}"
        if not cached.is_dir():
            bytecode.compile_tree(self.python, tree, exclude=f"/{without}/" if without else "(?!)")
            _keep(tree, cached, without)
        else:
            shutil.copytree(cached, tree, dirs_exist_ok=True)
            os.utime(cached)  # it is in use: `gov gc` looks at this


def _keep(tree: Path, cached: Path, without: str) -> None:
    """Store the bytecode of `tree`; another process may have been faster."""
    staging = fs.beside(cached, "staging")
    fs.remove_tree(staging)
    for folder in _folders(tree, without):
        shutil.copytree(folder, staging / folder.relative_to(tree))
    staging.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(cached)
    except OSError:
        fs.remove_tree(staging)


def _folders(tree: Path, without: str) -> Iterator[Path]:
    for folder in tree.rglob(_CACHE_FOLDER):
        if without not in folder.relative_to(tree).parts:
            yield folder
