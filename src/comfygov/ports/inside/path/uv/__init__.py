"""Stands in for the uv package: `python -m uv` and the program that it finds are answered by comfygov."""

from __future__ import annotations

import os


def find_uv_bin() -> str:
    return os.path.join(os.environ.get("COMFYGOV_PROGRAMS", ""), "uv")  # noqa: PTH118
