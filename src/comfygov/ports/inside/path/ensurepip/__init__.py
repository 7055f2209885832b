"""Stands in for ensurepip: pip is there, as comfygov plays it."""

from __future__ import annotations

from typing import Any


def version() -> str:
    return "25.0"


def bootstrap(**_: Any) -> None:
    import comfygov_installs  # type: ignore[import-not-found]

    comfygov_installs.ask("ensurepip", [])


def _main(_: list[str] | None = None) -> int:
    bootstrap()
    return 0
