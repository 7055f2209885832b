"""Runs a program whose kernel refuses chosen system calls, or does nothing and says that it did.

    python seccomp.py NAME=ERRNO[,NAME=ERRNO…] PROGRAM ARGUMENT…

ERRNO 0 makes a call succeed without any effect. It holds for all children: uv and git too. The filter is
classic BPF as in seccomp(2); numbers of system calls are those of the two 64-bit architectures that we meet.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": (0xC000003E, {"link": 86, "linkat": 265, "flock": 73}),
    "aarch64": (0xC00000B7, {"linkat": 37, "flock": 32}),
}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER_AT, ARCHITECTURE_AT = 0, 4


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def available() -> bool:
    return sys.platform == "linux" and platform.machine() in NUMBERS


def instructions(refused: dict[str, int]) -> bytes:
    architecture, numbers = NUMBERS[platform.machine()]
    code = [
        (LOAD_WORD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, ALLOW),
        (LOAD_WORD, 0, 0, NUMBER_AT),
    ]
    for name, errno in refused.items():
        if name in numbers:
            code += [(JUMP_EQUAL, 0, 1, numbers[name]), (RETURN, 0, 0, REFUSE | errno)]
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def install(refused: dict[str, int]) -> None:
    code = instructions(refused)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    install({name: int(errno) for name, errno in (part.split("=") for part in sys.argv[1].split(","))})
    os.execv(sys.argv[2], sys.argv[2:])
