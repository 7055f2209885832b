"""Stands in for easy_install."""

from __future__ import annotations

import sys

import comfygov_installs  # type: ignore[import-not-found]


def main(args: list[str] | None = None) -> int:
    found: int = comfygov_installs.ask("easy_install", list(sys.argv[1:] if args is None else args))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
