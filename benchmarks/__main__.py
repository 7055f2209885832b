"""All benchmarks that can run here, in one table.

python -m benchmarks [--runs N] [--home DIR | --stand-in]
"""

from __future__ import annotations

import argparse

from benchmarks import life, startup
from benchmarks.measure import print_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours against the bare tools.")
    parser.add_argument("--runs", type=int, help="rounds of each (default: each its own)")
    life.options(parser)
    given = parser.parse_args()
    rows = startup.measure(given.runs or startup.RUNS)
    home = given.home and given.home.absolute()
    print_table([*rows, *life.measure(given.runs or life.RUNS, home, stand_in=given.stand_in)])


if __name__ == "__main__":
    main()
