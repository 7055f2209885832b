"""bubblewrap: a view of the file system of its own, and no process that outlives it (Linux)."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import GovError
from comfygov.ports import process

if TYPE_CHECKING:
    from collections.abc import Sequence

# Without the capabilities a root in the box could mount everything back.
_NAMESPACES = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL", "--die-with-parent")
# Files of the kernel itself that root may write without any capability: /proc/sys names the program that the kernel
# starts, outside of every box, when something crashes. bubblewrap 0.8 covers only what access(2) calls writable.
_KERNEL_FILES = ("sys", "sysrq-trigger", "irq", "bus", "acpi", "scsi", "mtrr", "fs")
_TEMPORARY_BYTES = 1 << 30
_PROBE_SECONDS = 10.0


@lru_cache(maxsize=1)
def refusal() -> str:
    """Why bubblewrap cannot be used on this machine; empty when it can. Containers and hardened systems often
    have the program but no namespaces, so it is tried."""
    program = shutil.which("bwrap")
    if program is None:
        return "it is not installed"
    argv = [program, *_system(), *_NAMESPACES, "--unshare-net"]
    try:
        done = process.run([*argv, "--", shutil.which("true") or "/bin/true"], timeout_seconds=_PROBE_SECONDS)
    except GovError as error:
        return error.message
    said = done.words.splitlines()
    return "" if done.exit_code == 0 else said[-1] if said else f"exit code {done.exit_code}"


def _system() -> list[str]:
    """The disk, devices that hold nobody's files, and this process tree, none of it for writing."""
    files = [str(Path("/proc", name)) for name in _KERNEL_FILES if Path("/proc", name).exists()]
    covered = [word for path in files for word in ("--ro-bind", path, path)]
    shared = ["--size", str(_TEMPORARY_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108 (one of its own)
    return ["--ro-bind", "/", "/", "--dev", "/dev", *shared, "--proc", "/proc", *covered]


def prefix(
    *,
    hidden: Sequence[Path],
    shown: Sequence[Path],
    writable: Sequence[Path],
    devices: Sequence[Path],
    network: bool,
) -> list[str]:
    """The words before a command that is to run in the box.

    The disk can be read, but for `hidden`; what is `shown` can be read all the same. Of two that hold a path the
    longer one counts. All of it is gone with the first process.
    """
    argv = [shutil.which("bwrap") or "bwrap", *_NAMESPACES, *([] if network else ["--unshare-net"])]
    argv += _system()
    for device in devices:
        argv += ["--dev-bind-try", str(device), str(device)]
    masks = ["/dev"]  # what is in memory and is no process's own, no watch counts
    for path in sorted({*hidden, *shown}, key=lambda path: len(path.parts)):
        if path in shown:
            argv += ["--ro-bind", str(path), str(path)]
        elif not path.is_dir():
            argv += ["--ro-bind", "/dev/null", str(path)]
        else:
            argv += ["--size", str(_TEMPORARY_BYTES), "--tmpfs", str(path)]
            masks += [str(path)] if path != Path("/tmp") else []  # noqa: S108 (programs expect to write there)
    for path in writable:
        argv += ["--bind", str(path), str(path)]
    for mask in masks:
        argv += ["--remount-ro", mask]
    return [*argv, "--"]
