"""What it costs to start `gov`: --help, and status in a home with a long history, against a bare Python.

python -m benchmarks.startup [--runs N]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import homes
from benchmarks.measure import Budget, Row, in_turn, print_table, say, seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKOUT = Path(__file__).resolve().parent.parent
RUNS = 21
_GOV = (sys.executable, "-I", "-m", "comfygov")
_BARE = (sys.executable, "-I", "-c", "pass")


def measure(runs: int) -> list[Row]:
    """All rows of this program."""
    help_row = _row("gov --help", runs, (*_GOV, "--help"), _BARE, os.environ, Budget(times=5))
    return [help_row, _status(runs), *_script(runs)]


def _row(what: str, runs: int, ours: Sequence[str], bare: Sequence[str], env: Mapping[str, str], budget: Budget) -> Row:
    ours_median, bare_median = in_turn(runs, lambda: seconds_of(ours, env), lambda: seconds_of(bare, env))
    return Row(what, ours_median, bare_median, budget)


def _status(runs: int) -> Row:
    size = homes.LONG
    what = f"gov status ({size.packs} packs, {size.snapshots} snapshots, {size.transactions} transactions)"
    with tempfile.TemporaryDirectory(prefix="comfygov-benchmark-") as root:
        say("making a home with a long history")
        env = homes.with_history(Path(root)).environment()
        return _row(what, runs, (*_GOV, "status"), _BARE, env, Budget(times=8))


def _script(runs: int) -> list[Row]:
    """What `bin/gov` adds, in a checkout that has made its environment."""
    python = CHECKOUT / ".venv" / "bin" / "python"
    if not (python.is_file() and (CHECKOUT / ".venv" / "comfygov.stamp").is_file()):
        say("skipped: bin/gov --help (this checkout has no .venv yet: bin/gov makes it)")
        return []
    ours, bare = (str(CHECKOUT / "bin" / "gov"), "--help"), (str(python), "-I", "-m", "comfygov", "--help")
    return [_row("bin/gov --help (bare: its Python)", runs, ours, bare, os.environ, Budget(adds=0.02))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    print_table(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
