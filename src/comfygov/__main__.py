"""`gov`, and `python -m comfygov`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run `gov` and end at once: taking the interpreter apart would cost 10 ms of every call."""
    from comfygov.cli.entry import run

    exit_code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        exit_code = exit_code or 1
    os._exit(exit_code)


if __name__ == "__main__":
    main()
