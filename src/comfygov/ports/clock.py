"""Time as comfygov writes it down: UTC, ISO 8601, seconds."""

from __future__ import annotations

import time


def now() -> str:
    """`2026-11-21T20:15:00Z`. Order never depends on it: clocks jump."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
