"""What keeps a trial from changing anything but its own directories, where this machine has such a thing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from comfygov.ports import landlock

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a program needs to run at all: no device here holds anybody's files, unlike disks.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "kfd", "dri", "dxg", "nvidia*")


@dataclass(frozen=True)
class Sandbox:
    """`name` is what the report says: `landlock` or `none`."""

    name: str

    @property
    def protects_environment(self) -> bool:
        """True when the environment may share its files with others: nothing can write to them."""
        return self.name != "none"

    def wrap(self, argv: Sequence[str], writable: Sequence[Path]) -> list[str]:
        """The argument list that runs `argv` with only `writable` open for writing."""
        if self.name == "none":
            return list(argv)
        allowed = [option for path in (*_devices(writable), *map(str, writable)) for option in ("--rw", path)]
        return [sys.executable, "-I", "-S", landlock.__file__, *allowed, "--", *argv]


def _devices(writable: Sequence[Path]) -> list[str]:
    """Devices to open, but for a folder (/dev/shm) on which the trial, and so the home, itself lies."""
    found = [path for name in _DEVICES for path in Path("/dev").glob(name)]
    return [str(path) for path in found if not any(path in inside.resolve().parents for inside in writable)]


def choose(setting: Literal["auto", "none"]) -> Sandbox:
    """The strongest sandbox that is here, unless the settings say none."""
    return Sandbox("landlock" if setting == "auto" and landlock.abi() >= 1 else "none")
