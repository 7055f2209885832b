"""`gov`, and `python -m comfygov`."""

from __future__ import annotations

import gc
import os
import signal
import sys


def _end_in_order(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Run `gov` and end at once: taking the interpreter apart would cost 10 ms of every call."""
    gc.set_threshold(50_000)  # looking for cycles again and again while modules are loaded costs 5 ms
    # A trial's ComfyUI is ended on the way out; the default action would leave it running.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_in_order)
    # A Ctrl-C while modules are loaded waits until `run` can say what it means.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    from comfygov.cli.entry import run
    from comfygov.ports.process import keep_others_out

    keep_others_out()
    try:
        exit_code = run(sys.argv[1:])
    except KeyboardInterrupt:  # a second one, on the way out
        exit_code = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError:
        exit_code = exit_code or 1
    os._exit(exit_code)


if __name__ == "__main__":
    main()
