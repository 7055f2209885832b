"""Bytecode for packages that were just installed, so that no start has to make it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.envs import record
from comfygov.ports import process

if TYPE_CHECKING:
    from comfygov.ports.uv import Interpreter

_TIMEOUT_SECONDS = 900.0


def compile_packages(environment: Path, names: frozenset[str], python: Interpreter) -> None:
    """Compile the modules of the packages `names`. A file that is no valid Python (some packages carry
    templates) is left as it is, as pip and uv do."""
    modules = sorted(record.files_of(environment, names, ".py"))
    if not modules:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listing:
        listing.write("\n".join(modules))
        listing.flush()
        process.run(
            [python.path, "-I", "-m", "compileall", "-qq", "-j", "0", "-i", listing.name],
            timeout_seconds=_TIMEOUT_SECONDS,
        )
