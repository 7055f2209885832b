"""What a node returns to say: do not run what depends on me."""

from __future__ import annotations


class ExecutionBlocker:
    """Stops everything downstream; with a message the user is told, without one silently."""

    def __init__(self, message: str | None) -> None:
        self.message = message


def is_link(value: object) -> bool:
    """Say whether an input is `[node id, output index]`."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)
