"""Run a command that can write below named directories only (Linux Landlock, no privileges needed), and
that dies with the process that started it.

As a program: ``python -I landlock.py [--rw DIR]... [--ro DIR]... [--serve PORT] -- COMMAND [ARG]...``. With any
``--ro``, files elsewhere cannot be read; with ``--serve`` the command listens on that port and connects to nothing.
System call numbers are the same on every architecture that Linux has had since 5.13; constants are those of
linux/landlock.h and linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_RULE_PORT = 2
_NO_NEW_PRIVILEGES = 38
_SET_PARENT_DEATH_SIGNAL = 1

_WRITE_FILE = 1 << 1
# remove dir, remove file, make char, dir, reg, sock, fifo, block, sym (bits 4 to 12)
_CHANGE_DIRECTORY = sum(1 << bit for bit in range(4, 13))
_MAKE_DEVICES = 1 << 6 | 1 << 11  # held everywhere: who may make a disk's device may write the disk
_REFER = 1 << 13  # ABI 2: rename and link across directories
_TRUNCATE = 1 << 14  # ABI 3
_READ_FILE = 1 << 2
_BIND_TCP = 1 << 0
_CONNECT_TCP = 1 << 1
NETWORK_ABI = 4
SCOPE_ABI = 6
_SCOPES = 0b11  # no signals and no abstract unix sockets of processes outside

_DROP_FROM_BOUNDING_SET = 24
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_SET_SECCOMP = 22
_FILTER_MODE = 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE, _PRETEND = 0x7FFF0000, 0x00050000 | 13, 0x00050000  # EACCES; no error
_X32_BIT = 0x40000000
_IO_URING_SETUP = 425  # it opens sockets without the system call
# Calls that change metadata, of kernels that have them: fchmodat2, setxattrat, removexattrat.
_NEW_METADATA_CALLS = (452, 463, 466)
# Architecture as the kernel names it; the numbers of socket(2), of prlimit64(2), and of the calls that change priority
# (setpriority), rights (chmod, fchmod, fchmodat), owners (chown, fchown, lchown, fchownat), times (utime, utimes,
# futimesat, utimensat) and attributes (set, remove xattr).
_CALLS = {
    "x86_64": (
        *(0xC000003E, 41, 302),
        (141, 90, 91, 268, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199, *_NEW_METADATA_CALLS),
    ),
    "aarch64": (0xC00000B7, 198, 261, (140, 52, 53, 54, 55, 88, 5, 6, 7, 14, 15, 16, *_NEW_METADATA_CALLS)),
}
# Numbers of sendto(2), sendmsg(2), sendmmsg(2), and which argument their flags are.
_SENDS = {"x86_64": ((44, 3), (46, 2), (307, 3)), "aarch64": ((206, 3), (211, 2), (269, 3))}
_UNIX, _INET, _INET6, _NETLINK, _TCP = 1, 2, 10, 16, 6
_STREAM, _TYPE_MASK, _FAST_OPEN = 1, 0xF, 0x20000000


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(0, int(version))


def can_filter() -> bool:
    """True where system calls are filtered too: changes of rights and times, and with `--serve` UDP and raw sockets,
    none of which Landlock knows."""
    return sys.platform == "linux" and platform.machine() in _CALLS


def restrict(writable: list[str], readable: list[str], serve_port: int = 0) -> None:
    """From now on this process and its children write, create and delete below `writable` only.

    With `readable` they read files there and below `writable` only. With a `serve_port` they may listen on it
    and connect to nothing by TCP.
    """
    version = abi()
    if version < 1:
        raise OSError("this kernel has no Landlock")
    handled = _WRITE_FILE | _CHANGE_DIRECTORY
    handled |= _REFER if version >= 2 else 0
    handled |= _TRUNCATE if version >= 3 else 0
    handled |= _READ_FILE if readable else 0
    network = _BIND_TCP | _CONNECT_TCP if serve_port and version >= NETWORK_ABI else 0
    fields = [handled, *([network] if version >= NETWORK_ABI else []), *([_SCOPES] if version >= SCOPE_ABI else [])]
    libc = ctypes.CDLL(None, use_errno=True)
    packed = struct.pack(f"={len(fields)}Q", *fields)
    attributes = ctypes.create_string_buffer(packed, len(packed))
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(packed)), ctypes.c_uint32(0))
    _check(ruleset, "landlock_create_ruleset")
    for directory in readable:
        _allow(libc, ruleset, directory, _READ_FILE)
    for directory in writable:
        _allow(libc, ruleset, directory, handled & ~_MAKE_DEVICES)
    if network:
        rule = ctypes.create_string_buffer(struct.pack("=QQ", _BIND_TCP, serve_port), 16)
        done = libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PORT), rule, ctypes.c_uint32(0))
        _check(done, "landlock_add_rule port")
    _check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    _drop_capabilities(libc)
    _check(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "landlock_restrict_self")
    os.close(ruleset)
    if can_filter():
        _filter_calls(libc, no_datagrams=bool(serve_port))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """What root may do beyond its own files: mount, load modules, reach past a path. Others have none to drop."""
    for capability in range(64):
        libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, bytes(24)), "capset")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter_calls(libc: ctypes.CDLL, *, no_datagrams: bool) -> None:
    """What Landlock does not know (classic BPF, seccomp(2)): changes of rights, owners, times and attributes do
    nothing and say that they did; with `no_datagrams` all but plain TCP is refused."""
    architecture, _, limit_call, metadata_calls = _CALLS[platform.machine()]
    code = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),  # a 32-bit program would have other numbers
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _REFUSE),
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _REFUSE),
        *(step for call in metadata_calls for step in ((_EQUAL, 0, 1, call), (_RETURN, 0, 0, _PRETEND))),
    ]
    # A limit on another process ends it as a signal would: only one's own (pid 0) may be set.
    code += [(_EQUAL, 0, 4, limit_call), (_LOAD, 0, 0, 16), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE)]
    code += [(_RETURN, 0, 0, _ALLOW)]
    if no_datagrams:
        code += _network_steps()
    code.append((_RETURN, 0, 0, _ALLOW))
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = _Program(len(code), ctypes.cast(buffer, ctypes.c_void_p))
    _check(libc.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0), "prctl seccomp")


def _network_steps() -> list[tuple[int, int, int, int]]:
    """Sockets are unix, netlink or plain TCP: Landlock knows no other (MPTCP connects past it). Nothing is sent
    together with the connection (TCP Fast Open), which it does not see. Arguments are at offset 16, 8 bytes each."""
    socket_call, sends = _CALLS[platform.machine()][1], _SENDS[platform.machine()]
    steps = []
    for call, flags in sends:
        check = [(_LOAD, 0, 0, 16 + 8 * flags), (_ANY_BIT, 0, 1, _FAST_OPEN), (_RETURN, 0, 0, _REFUSE)]
        steps += [(_EQUAL, 0, 4, call), *check, (_RETURN, 0, 0, _ALLOW)]
    family = [(_LOAD, 0, 0, 16), (_EQUAL, 10, 0, _UNIX), (_EQUAL, 9, 0, _NETLINK), (_EQUAL, 1, 0, _INET)]
    family += [(_EQUAL, 0, 6, _INET6)]
    kind = [(_LOAD, 0, 0, 24), (_AND, 0, 0, _TYPE_MASK), (_EQUAL, 0, 3, _STREAM)]
    protocol = [(_LOAD, 0, 0, 32), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, _TCP)]
    whole = [*family, *kind, *protocol, (_RETURN, 0, 0, _REFUSE)]
    return [*steps, (_EQUAL, 0, len(whole), socket_call), *whole]


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112 (this file runs alone, with -I and little else)
            rights &= _WRITE_FILE | _TRUNCATE | _READ_FILE
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
    given: dict[str, list[str]] = {"--rw": [], "--ro": [], "--serve": []}
    while arguments and arguments[0] in given:
        given[arguments[0]].append(arguments[1])
        arguments = arguments[2:]
    command = arguments[1:]
    restrict(given["--rw"], given["--ro"], int(next(iter(given["--serve"]), "0")))
    os.execv(command[0], command)  # noqa: S606 (an argument list)


if __name__ == "__main__":
    main(sys.argv[1:])
