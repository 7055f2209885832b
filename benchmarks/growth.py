"""How commands that read grow with a home: seconds (medians) and memory, to 300 packs and 5,000 snapshots.

python -m benchmarks.growth [--runs N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import homes
from benchmarks.homes import Size
from benchmarks.measure import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUNS = 7
SIZES = (Size(10, 10, 10), Size(50, 200, 1000), Size(200, 1000, 2000), Size(300, 5000, 5000))
COMMANDS = ("status", "node list", "snapshot list", "tx list", "audit", "verify", "gc --dry-run")
_GOV = (sys.executable, "-I", "-m", "comfygov")


def once(argv: Sequence[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Seconds, and MB of the process's largest resident set."""
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    started = time.perf_counter()
    pid = os.posix_spawn(argv[0], list(argv), env, file_actions=nothing)
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed: {' '.join(argv)}")
    return took, usage.ru_maxrss / 1000


def measure(size: Size, runs: int) -> dict[str, str]:
    """`seconds / MB` of each command in a home of that size."""
    with tempfile.TemporaryDirectory(prefix="comfygov-benchmark-") as root:
        say(f"making a home with {size.packs} packs, {size.snapshots} snapshots, {size.transactions} transactions")
        env = homes.with_history(Path(root), size).environment()
        cells = {}
        for command in COMMANDS:
            argv = (*_GOV, *command.split())
            rounds = [once(argv, env) for _ in range(runs + 1)][1:]
            seconds, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
            cells[command] = f"{seconds:.3f} / {memory:.0f}"
        return cells


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    columns = [measure(size, runs) for size in SIZES]
    heads = [f"{size.packs} packs, {size.snapshots} snapshots" for size in SIZES]
    print(f"{'seconds / MB':<16}" + "".join(f"{head:>28}" for head in heads))
    for command in COMMANDS:
        print(f"{'gov ' + command:<16}" + "".join(f"{column[command]:>28}" for column in columns))


if __name__ == "__main__":
    main()
