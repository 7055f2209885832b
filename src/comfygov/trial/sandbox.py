"""What keeps a trial from changing anything but its own directories, where this machine has such a thing."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from comfygov.errors import Code, GovError
from comfygov.ports import bubblewrap, landlock
from comfygov.ports.inside import relay
from comfygov.trial.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

Setting = Literal["auto", "bwrap", "landlock", "none"]
Network = Literal["allow", "record", "deny"]

# What a program needs to run at all: no device here holds anybody's files, unlike disks. Not /dev/pts: who may open the
# terminals of a person reads what they type there.
_PLAIN_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm")
_GPU_DEVICES = ("kfd", "dri", "dxg", "nvidia*")


@dataclass(frozen=True)
class Door:
    """Where ComfyUI listens: the port, and the descriptor of a socket outside that leads there (-1: none)."""

    port: int
    descriptor: int = -1


@dataclass(frozen=True)
class Sandbox:
    """`name` is what the report says: `bwrap`, `landlock` or `none`."""

    name: str
    network: Network = "allow"
    view: View = field(default_factory=View)
    gpu: bool = True

    @property
    def _gpu_devices(self) -> tuple[str, ...]:
        return _GPU_DEVICES if self.gpu else ()

    @property
    def protects_environment(self) -> bool:
        """True when the environment may share its files with others: nothing can write to them."""
        return self.name != "none"

    @property
    def needs_relay(self) -> bool:
        """True when the trial has a network of its own, which nobody outside can reach."""
        return self.name == "bwrap" and self.network == "deny"

    def wrap(self, argv: Sequence[str], writable: Sequence[Path], door: Door | None = None) -> list[str]:
        """The argument list that runs `argv` with only `writable` open for writing."""
        if self.name == "bwrap":
            return [*self._box(writable), *self._relayed(argv, door)]
        if self.name == "landlock":
            return [*self._landlock(writable, door), "--", *argv]
        return list(argv)

    def _box(self, writable: Sequence[Path]) -> list[str]:
        places = [path.resolve() for path in writable]
        # A candidate that was a folder when the trial was planned may be a link to a sealed environment now.
        shown = tuple(path.resolve() for path in (*self.view.shown, Path(relay.__file__).parent))
        return bubblewrap.prefix(
            hidden=[path for path in self.view.hidden if path not in places],
            shown=[path for path in shown if not any(place == path or place in path.parents for place in places)],
            writable=places,
            devices=_devices(self._gpu_devices),
            network=self.network != "deny",
        )

    def _relayed(self, argv: Sequence[str], door: Door | None) -> list[str]:
        if door is None or door.descriptor < 0:
            return list(argv)
        return [argv[0], "-I", "-S", relay.__file__, str(door.descriptor), str(door.port), "--", *argv]

    def _landlock(self, writable: Sequence[Path], door: Door | None) -> list[str]:
        inside = [path.resolve() for path in writable]
        # A folder (/dev/shm) on which the trial itself, and so the home, lies is no scratch space of its own.
        devices = [
            path
            for path in _devices((*_PLAIN_DEVICES, *self._gpu_devices))
            if not any(path in place.parents for place in inside)
        ]
        words = [word for path in (*devices, *inside) for word in ("--rw", str(path))]
        if self.view.hidden:
            seen = View((*self.view.hidden, Path("/dev")), tuple(path.resolve() for path in self.view.shown))
            words += [word for path in seen.readable() for word in ("--ro", str(path))]
        if self.network == "deny":
            words += ["--serve", str(door.port if door else 1)]
        return [sys.executable, "-I", "-S", landlock.__file__, *words]

    def holds(self) -> tuple[str, ...]:
        """What a trial cannot do, in words."""
        if self.name == "none":
            return ()
        held = ["writing, creating and deleting outside of its own directories", "reading the files in your home"]
        if self.name == "bwrap":
            held += ["seeing that they are there", "processes that outlive it"]
            held += ["other programs' sockets" if self.network == "deny" else "other programs' sockets that are files"]
            return (*held, *(["every network but its own loopback"] if self.network == "deny" else []))
        held += ["rights, owners and times of your files"] if landlock.can_filter() else []
        held += ["signals to other processes"] if landlock.abi() >= landlock.SCOPE_ABI else []
        if self.network == "deny":
            held += ["TCP connections"] if landlock.abi() >= landlock.NETWORK_ABI else []
            held += ["UDP"] if landlock.can_filter() else []
        return tuple(held)

    def does_not_hold(self) -> tuple[str, ...]:
        """What a trial can do although it should not, in words."""
        if self.name == "none":
            return ("anything that you can do yourself",)
        open_network = ["connections"] if self.network != "deny" else []
        if self.name == "bwrap":
            return tuple(open_network)
        loose = ["names of your files", "sockets of other programs (docker, ssh-agent)", "/dev/shm", *open_network]  # noqa: S108
        loose += [] if landlock.can_filter() else ["chmod and chown of your files"]
        loose += ["signals to your other processes"] if landlock.abi() < landlock.SCOPE_ABI else []
        if self.network == "deny":
            loose += ["TCP connections"] if landlock.abi() < landlock.NETWORK_ABI else []
            loose += [] if landlock.can_filter() else ["UDP"]
        return tuple(loose)


def _devices(names: Sequence[str]) -> list[Path]:
    return [path for name in names for path in sorted(Path("/dev").glob(name))]


def choose(setting: Setting, network: Network = "allow", view: View | None = None) -> Sandbox:
    """The strongest sandbox that works here, or the one that the settings name.

    Raises `tool_missing` when that one does not work: a boundary that somebody asked for is never left out.
    """
    seen = view or View()
    if setting == "none":
        return Sandbox("none", network, seen)
    refusal = bubblewrap.refusal() if setting in ("auto", "bwrap") else ""
    if setting in ("auto", "bwrap") and not refusal:
        return Sandbox("bwrap", network, seen)
    if setting == "bwrap":
        raise _missing("bubblewrap", refusal)
    if landlock.abi() >= 1:
        return Sandbox("landlock", network, seen)
    if setting == "landlock":
        raise _missing("Landlock", "this kernel has none")
    return Sandbox("none", network, seen)


def _missing(name: str, why: str) -> GovError:
    message = f"[tx] sandbox asks for {name}, which does not work here: {why}"
    return GovError(Code.TOOL_MISSING, message, 'set `sandbox = "auto"` under [tx] in config.toml, or install it')
