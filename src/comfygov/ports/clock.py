"""Time as comfygov writes it down: UTC, ISO 8601, seconds."""

from __future__ import annotations

import time

from comfygov.ports import faults


def wall_seconds() -> float:
    """Seconds since the epoch, as the wall clock has them: it jumps."""
    return time.time() + faults.clock_offset_seconds


def now() -> str:
    """`2026-11-21T20:15:00Z`. Order never depends on it: clocks jump."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_seconds()))
