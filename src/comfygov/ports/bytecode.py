"""Bytecode made ahead, so that no start has to make it. Compiling reads code and runs none of it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from comfygov.ports import process

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TIMEOUT_SECONDS = 900.0


def compile_modules(python: str, modules: Sequence[str]) -> None:
    """Compile the files `modules`. One that is no valid Python (some packages carry templates) is left as
    it is, as pip and uv do."""
    if not modules:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listing:
        listing.write("\n".join(modules))
        listing.flush()
        _compile(python, ["-j", "0", "-i", listing.name])


def compile_tree(python: str, directory: Path, *, exclude: str = "(?!)") -> None:
    """Compile all modules below `directory` whose path does not match `exclude`. The bytecode names the
    hash of its source, so that it may be copied to another checkout of the same commit. A link that leads out of it is
    no module of it: its bytecode would hold what somebody else wrote."""
    inside = ["-e", str(directory), str(directory)]
    _compile(python, ["--invalidation-mode", "checked-hash", "-x", exclude, *inside])


def _compile(python: str, arguments: Sequence[str]) -> None:
    process.run([python, "-I", "-m", "compileall", "-qq", *arguments], timeout_seconds=_TIMEOUT_SECONDS)
