"""What governance costs in the life of a change: promote, rollback and trial, against uv and a bare boot.

python -m benchmarks.life [--runs N] [--home DIR | --stand-in]

COMFYGOV_TEST_COMFYUI names the repository of the real ComfyUI, COMFYGOV_TEST_PACK (optional) one of a real
pack that is enabled throughout. --home takes a governed home that is there, and leaves another head in it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.governed import Governed

from benchmarks import changes
from benchmarks.bare import Bare
from benchmarks.homes import Own
from benchmarks.measure import Budget, Row, print_table, say

COMFYUI_VARIABLE = "COMFYGOV_TEST_COMFYUI"
PACK_VARIABLE = "COMFYGOV_TEST_PACK"
RUNS = 3
# What this ComfyUI needs to be healthy with the packages of today (docs/acceptance.md).
INIT = ("--constraint", "torch==2.11.*", "--require", "requests")


@dataclass
class Samples:
    """Seconds of every round, by what was measured."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    def add(self, found: dict[str, float]) -> None:
        for name, seconds in found.items():
            self.taken.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float:
        return statistics.median(self.taken[name])


def measure(runs: int, given: Path | None, *, stand_in: bool) -> list[Row]:
    """All rows of this program; none, with the reason said, where there is no ComfyUI."""
    if not (stand_in or given or os.environ.get(COMFYUI_VARIABLE)):
        say(f"skipped: life ({COMFYUI_VARIABLE} names no repository of ComfyUI; --stand-in tries the program)")
        return []
    with tempfile.TemporaryDirectory(prefix="comfygov-benchmark-") as root:
        governed = _stand_in(Path(root)) if stand_in else _real(Path(root), given)
        change = changes.prepare(governed, "extra" if stand_in else "segno")
        bare = Bare.prepare(change)
        samples = Samples()
        _round(change, bare)  # warms the caches
        for number in range(runs):
            say(f"round {number + 1} of {runs}")
            samples.add(_round(change, bare))
    return _rows(samples)


def _round(change: changes.Change, bare: Bare) -> dict[str, float]:
    """Ours and theirs, one after the other."""
    return {**change.measure(), **bare.measure()}


def _stand_in(root: Path) -> Governed:
    governed = Governed(root)
    governed.wheel("basis", "1.0")
    governed.wheel("extra", "1.0")
    governed.init(requirements="basis\n").ok()
    return governed


def _real(root: Path, given: Path | None) -> Governed:
    governed = Own(root, given=given or make_home(root))
    pack = os.environ.get(PACK_VARIABLE)
    if pack:
        changes.promote(governed, pack)
    return governed


def make_home(root: Path) -> Path:
    """A home with the real ComfyUI."""
    say("making a governed home with the real ComfyUI (minutes, when uv's cache is cold)")
    governed = Own(root)
    governed.gov("init", "--repo", os.environ[COMFYUI_VARIABLE], *INIT, timeout=3600).ok()
    return governed.home


def _rows(samples: Samples) -> list[Row]:
    uv, ready, boot = (samples.median(name) for name in ("uv", "bare ready", "bare boot"))
    worst = max(samples.taken["outside"])
    return [
        Row("gov tx promote (bare: uv lock && uv sync)", samples.median("promote"), uv, Budget(times=2)),
        Row("  with lock and candidate environment of the trial", samples.median("change"), uv, Budget(times=2)),
        Row("  all of tx run and promote but the boot, worst", worst, None, Budget(seconds=5)),
        Row("gov rollback", samples.median("rollback"), None, Budget(seconds=0.3)),
        Row("trial: until ComfyUI answers", samples.median("ready"), ready, Budget(times=1.1)),
        Row("trial: boot stage (bare: boot, SIGTERM, end)", samples.median("boot"), boot, Budget(times=1.1)),
        Row("gov tx run (bare: the same boot)", samples.median("tx run"), boot, Budget(times=1.1)),
    ]


def options(parser: argparse.ArgumentParser) -> None:
    """What this program and `python -m benchmarks` share."""
    parser.add_argument("--home", type=Path, help="a governed home to use instead of a new one; it will be changed")
    parser.add_argument("--stand-in", action="store_true", help="run on the stand-in, to check this program itself")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.life", description="Promote, rollback and trial.")
    parser.add_argument("--runs", type=int, default=RUNS)
    options(parser)
    given = parser.parse_args()
    rows = measure(given.runs, given.home and given.home.absolute(), stand_in=given.stand_in)
    if rows:
        print_table(rows)


if __name__ == "__main__":
    main()
