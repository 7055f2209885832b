"""The way of the command line to what must not be written down, without what opening a home needs (8 ms)."""

from __future__ import annotations

from comfygov.ports.secrets import hidden

__all__ = ["hidden"]
