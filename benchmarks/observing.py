"""What it costs that a trial is observed: boots of ComfyUI in the sandbox, with the observer and without, in turn.

python -m benchmarks.observing [--runs N] [--home DIR]

--home takes a governed home that is there (nothing of it changes); else a stand-in is made, whose boot is so short
that the start of the observer itself shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.governed import Governed

from benchmarks.measure import Budget, Row, print_table, say
from comfygov.ops import trying
from comfygov.ops.context import open_home
from comfygov.ports import fs
from comfygov.ports.desk import compile_inside
from comfygov.ports.progress import Silent
from comfygov.trial import boot

if TYPE_CHECKING:
    from comfygov.ops.context import Context

RUNS = 9


def measure(runs: int, given: Path | None) -> list[Row]:
    """One row: median seconds of a whole boot, from start to end."""
    with tempfile.TemporaryDirectory(prefix="comfygov-benchmark-") as root:
        home = given or _stand_in(Path(root))
        context = open_home(str(home), "benchmark", Silent())
        watched: list[float] = []
        bare: list[float] = []
        compile_inside(context.interpreter.path, context.interpreter.build.split()[0])
        for observed in (True, False):
            _boot(context, observed=observed)  # warms the caches
        for number in range(runs):
            say(f"round {number + 1} of {runs}")
            first = bool(number % 2)
            for observed in (first, not first):
                (watched if observed else bare).append(_boot(context, observed=observed))
    what = "boot of a trial, observed (bare: not observed)"
    return [Row(what, statistics.median(watched), statistics.median(bare), Budget(times=1.05))]


def _stand_in(root: Path) -> Path:
    governed = Governed(root)
    os.environ.update(COMFYGOV_CACHE=str(root / "cache"), UV_CACHE_DIR=str(root / "uv-cache"))
    governed.wheel("basis", "1.0")
    governed.init(requirements="basis\n").ok()
    return governed.home


def _boot(context: Context, *, observed: bool) -> float:
    """Seconds from the start of ComfyUI until its API answered."""
    state = context.head_state()
    environment = context.generations.path(state.generation).absolute()
    plan = trying.plan(context, state, "benchmark", environment, None)
    desk = context.home.work.absolute() / "benchmark-desk"
    fs.remove_tree(desk)
    (desk / "extra").mkdir(parents=True)
    if observed:
        watch = boot.Watch(desk, desk / "events.jsonl", lambda _: {"exit": 1, "said": "", "answer": ""}, desk / "extra")
        plan = dataclasses.replace(plan, watch=watch)
    started = time.perf_counter()
    try:
        with boot.booted(plan):
            return time.perf_counter() - started
    finally:
        fs.remove_tree(plan.work)
        fs.remove_tree(desk)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observing", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--home", type=Path, help="a governed home to boot")
    given = parser.parse_args()
    print_table(measure(given.runs, given.home and given.home.absolute()))


if __name__ == "__main__":
    main()
