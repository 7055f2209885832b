"""The first process of a container: hands signals on, and collects the orphans that become its children."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def replace(argv: list[str], environment: dict[str, str], stop_signal: int = signal.SIGTERM) -> NoReturn:
    """Become `argv`; as the first process of a container, stay and look after it instead. `stop_signal` is what the
    program gets for a SIGTERM."""
    sys.stdout.flush()
    if os.getpid() != 1:
        os.execve(argv[0], argv, environment)  # noqa: S606 (an argument list of ours)
    sys.exit(attend(argv, environment, stop_signal))


def attend(argv: list[str], environment: dict[str, str], stop_signal: int = signal.SIGTERM) -> int:
    """Run `argv` until it ends, and return its exit code as a shell would."""
    # Held back until there is somebody to hand them to: the kernel drops what the first process does not handle.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDED_ON)
    child = os.posix_spawn(argv[0], argv, environment, setpgroup=0, setsigmask=())

    def hand_on(number: int, _frame: object) -> None:
        try:
            os.kill(child, stop_signal if number == signal.SIGTERM else number)
        except ProcessLookupError:
            pass  # it ended just now; the loop below sees it

    for number in _HANDED_ON:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDED_ON)
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
