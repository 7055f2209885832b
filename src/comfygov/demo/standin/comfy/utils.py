"""The progress bar nodes use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ProgressHook = Callable[..., None]
_hook: dict[str, ProgressHook] = {}


def set_progress_bar_global_hook(function: ProgressHook) -> None:
    """Send every progress report to this function."""
    _hook["hook"] = function


class ProgressBar:
    """Counts steps and reports each one."""

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total = total
        self.current = 0
        self.node_id = node_id

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:  # noqa: ANN401
        """Set the position."""
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        if "hook" in _hook:
            _hook["hook"](self.current, self.total, preview, node_id=self.node_id)

    def update(self, value: int) -> None:
        """Move on by some steps."""
        self.update_absolute(self.current + value)
