"""Older ways into pip."""

from __future__ import annotations

from pip import main

__all__ = ["main"]
