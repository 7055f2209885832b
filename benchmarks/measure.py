"""Timing of whole processes, taken in turn, and the one table that is printed."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Budget:
    """What a row may cost: a ratio to the bare tool, seconds more than it, or seconds in all."""

    times: float | None = None
    adds: float | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.times is not None:
            return f"{self.times:g}x"
        return f"+{self.adds:g} s" if self.adds is not None else f"{self.seconds:g} s"

    def holds(self, ours: float, bare: float) -> bool:
        """True when `ours` is within; `bare` counts only where the budget is relative to it."""
        if self.times is not None:
            return ours <= self.times * bare
        if self.adds is not None:
            return ours - bare <= self.adds
        return self.seconds is not None and ours <= self.seconds


@dataclass(frozen=True)
class Row:
    """One line of the table. `bare` is None where there is no bare tool to compare with."""

    what: str
    ours: float
    bare: float | None
    budget: Budget

    def cells(self) -> tuple[str, ...]:
        within = self.budget.holds(self.ours, self.bare or 0.0)
        bare = "-" if self.bare is None else f"{self.bare:.3f}"
        ratio = f"{self.ours / self.bare:.2f}" if self.bare else "-"
        return (self.what, f"{self.ours:.3f}", bare, ratio, str(self.budget), "within" if within else "over")


def print_table(rows: Sequence[Row]) -> None:
    """Print the table, medians in seconds."""
    header = ("what", "ours (s)", "bare (s)", "ratio", "budget", "")
    lines = [header, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        numbers = [cell.rjust(width) for cell, width in zip(line[1:5], widths[1:5], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *numbers, line[5]]).rstrip())


def say(text: str) -> None:
    """News for whoever waits; the table alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def seconds_of(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Wall time of one process from its start to its end; what it said is shown only when it fails."""
    with tempfile.NamedTemporaryFile() as said:
        descriptor = said.fileno()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, descriptor, 1),
            (os.POSIX_SPAWN_DUP2, descriptor, 2),
        ]
        started = time.perf_counter()
        pid = os.posix_spawn(argv[0], list(argv), env, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        took = time.perf_counter() - started
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(f"failed: {' '.join(argv)}\n{Path(said.name).read_text(errors='replace')}")
        return took


def in_turn(runs: int, *measures: Callable[[], float]) -> tuple[float, ...]:
    """Medians of `measures`, taken A B A B …, after one round that warms the caches and is not counted."""
    for measure in measures:
        measure()
    rounds = [tuple(measure() for measure in measures) for _ in range(runs)]
    return tuple(statistics.median(column) for column in zip(*rounds, strict=True))
