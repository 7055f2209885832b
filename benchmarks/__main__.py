"""Every promise about speed in one table: ours, the bare tool, the ratio, the budget.

python -m benchmarks [--runs N] [--home DIR | --stand-in] [--models]

With COMFYGOV_TEST_COMFYUI (a repository of the real ComfyUI) or --home the life of a change, the trial and the clone
of a version are measured on it; --models writes 12 GB. Memory, and how all grows: `python -m benchmarks.growth`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import conflicts, handler, life, models, observing, startup, versions
from benchmarks.measure import print_table, say

if TYPE_CHECKING:
    from benchmarks.measure import Row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours against the bare tools.")
    parser.add_argument("--runs", type=int, help="rounds of each (default: each its own)")
    parser.add_argument("--models", action="store_true", help="verify 8 GB and fetch 2 GB too")
    life.options(parser)
    given = parser.parse_args()
    rows = startup.measure(given.runs or startup.RUNS)
    say("conflicts")
    rows += conflicts.measure(given.runs or conflicts.RUNS)
    say("handler, on the stand-in")
    # The stand-in starts in a tenth of a second, which says nothing of a worker's start.
    rows += handler.measure(handler.JOBS, 0, None)
    with tempfile.TemporaryDirectory(prefix="comfygov-benchmark-") as root:
        rows += _on_a_home(given.runs, given.home and given.home.absolute(), Path(root), stand_in=given.stand_in)
        if given.models:
            say("models")
            rows += models.measure(models.RUNS, Path(root), 8 << 30, 40, 2 << 30)
    print_table(rows)


def _on_a_home(runs: int | None, home: Path | None, root: Path, *, stand_in: bool) -> list[Row]:
    """The rows that want a ComfyUI; all real ones on one home."""
    if home is None and not stand_in and os.environ.get(life.COMFYUI_VARIABLE):
        home = life.make_home(root)
    rows = life.measure(runs or life.RUNS, home, stand_in=stand_in)
    if rows:
        say("observing")
        rows += observing.measure(runs or observing.RUNS, home)
    if home:
        say("versions")
        rows += versions.measure(runs or versions.RUNS, home)
    return rows


if __name__ == "__main__":
    main()
