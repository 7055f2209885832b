"""`gov`, and `python -m comfygov`."""

from __future__ import annotations

import sys


def main() -> None:
    from comfygov.cli.entry import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
