"""Bytecode made ahead, so that no start has to make it. Compiling reads code and runs none of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.ports import process

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_SECONDS = 900.0

# Read by the Python that made it: the form of bytecode differs between versions.
_NAME_CUT_OFF = """
import importlib.util, marshal, os, sys
for root in sys.argv[1:]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names if os.path.basename(folder) == "__pycache__" else ():
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    data = file.read()
                if data[:4] == importlib.util.MAGIC_NUMBER:
                    marshal.loads(data[16:])
            except (EOFError, ValueError, TypeError):
                os.write(1, os.fsencode(os.path.join(folder, name)) + b"\\0")
            except OSError:
                pass
"""


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
    # A minute's work for a new environment, in a folder that no other command uses: nobody has to wait for it.
    argv = [python, "-I", "-m", "compileall", "-qq", *arguments]
    process.run(argv, timeout_seconds=_TIMEOUT_SECONDS, holds_locks=False)


def cut_off(python: str, *folders: Path) -> list[Path]:
    """Bytecode below `folders` that is not whole: Python writes half of it on a full disk, and then starts nothing
    that needs it (EOFError: marshal data too short)."""
    argv = [python, "-I", "-S", "-c", _NAME_CUT_OFF, *map(str, folders)]
    said = process.run(argv, timeout_seconds=_TIMEOUT_SECONDS, errors="surrogateescape").stdout
    return [Path(name) for name in said.split("\0") if name]
