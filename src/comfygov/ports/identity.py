"""Which process a number means: numbers are used again, so a record also holds when the process started."""

from __future__ import annotations

import os
import sys

_EPOCH_STARTS_AT = 1e9
"""No machine is up for 30 years: a larger number counts from 1970."""
_BOOT_TOLERANCE_SECONDS = 0.02
_EPOCH_TOLERANCE_SECONDS = 2.0


def started_at(pid: int) -> float | None:
    """When the process `pid` started; None when there is no such process, or only its exit code is left.

    On Linux in seconds since boot (field 22 of proc_pid_stat(5)), which no change of the clock moves;
    elsewhere in seconds since the epoch.
    """
    return _since_boot(pid) if sys.platform.startswith("linux") else _since_epoch(pid)


def is_same_process(pid: int, started: float) -> bool:
    """True while the process that was `pid` at `started` lives. Older records count from the epoch."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    from_epoch = started > _EPOCH_STARTS_AT
    found = _since_epoch(pid) if from_epoch else started_at(pid)
    tolerance = _EPOCH_TOLERANCE_SECONDS if from_epoch else _BOOT_TOLERANCE_SECONDS
    return found is not None and abs(found - started) < tolerance


def _since_boot(pid: int) -> float | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 (asked for every process there is)
            # The name, in brackets, may hold anything, brackets and spaces too.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _since_epoch(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
