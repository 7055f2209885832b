"""Stands in for pip: `import pip; pip.main([...])` and `python -m pip` are answered by comfygov."""

from __future__ import annotations

import sys

__version__ = "25.0"


def main(args: list[str] | None = None) -> int:
    import comfygov_installs  # type: ignore[import-not-found]

    found: int = comfygov_installs.ask("pip", list(sys.argv[1:] if args is None else args))
    return found
