"""Run a command that can write below named directories only (Linux Landlock, no privileges needed), and
that dies with the process that started it.

As a program: ``python -I landlock.py [--rw DIR]... -- COMMAND [ARG]...``. System call numbers are the
same on every architecture that Linux has had since 5.13; constants are those of linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38
_SET_PARENT_DEATH_SIGNAL = 1

_WRITE_FILE = 1 << 1
# remove dir, remove file, make char, dir, reg, sock, fifo, block, sym (bits 4 to 12)
_CHANGE_DIRECTORY = sum(1 << bit for bit in range(4, 13))
_REFER = 1 << 13  # ABI 2: rename and link across directories
_TRUNCATE = 1 << 14  # ABI 3


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(0, int(version))


def restrict_writes(directories: list[str]) -> None:
    """From now on this process and its children write, create and delete below `directories` only."""
    version = abi()
    if version < 1:
        raise OSError("this kernel has no Landlock")
    handled = _WRITE_FILE | _CHANGE_DIRECTORY
    handled |= _REFER if version >= 2 else 0
    handled |= _TRUNCATE if version >= 3 else 0
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(struct.pack("=Q", handled), 8)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(8), ctypes.c_uint32(0))
    _check(ruleset, "landlock_create_ruleset")
    for directory in directories:
        _allow(libc, ruleset, directory, handled)
    _check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    _check(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "landlock_restrict_self")
    os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112 (this file runs alone, with -I and little else)
            rights &= _WRITE_FILE | _TRUNCATE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        done = libc.syscall(
            _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint32(0)
        )
        _check(done, f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it dies, whatever kills that."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> None:
    die_with_parent()
    writable: list[str] = []
    while arguments and arguments[0] == "--rw":
        writable.append(arguments[1])
        arguments = arguments[2:]
    command = arguments[1:]
    restrict_writes(writable)
    os.execv(command[0], command)  # noqa: S606 (an argument list)


if __name__ == "__main__":
    main(sys.argv[1:])
