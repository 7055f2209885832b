"""What this machine can do to keep a trial in its box, and how to get the rest."""

from __future__ import annotations

import sys

import msgspec

from comfygov.ports import bubblewrap, cgroup, landlock
from comfygov.trial import sandbox


class SandboxReport(msgspec.Struct, frozen=True):
    """`chosen` is what `[tx] sandbox = "auto"` comes to here; `advice` are steps that would make it stronger."""

    chosen: str
    holds: tuple[str, ...]
    does_not_hold: tuple[str, ...]
    landlock_abi: int
    bubblewrap_refusal: str
    memory_limit: str
    advice: tuple[str, ...] = ()


def report() -> SandboxReport:
    """Ask the kernel and the programs that are there; takes some milliseconds and changes nothing."""
    found = sandbox.choose("auto", "deny")
    refusal = bubblewrap.refusal()
    return SandboxReport(
        chosen=found.name,
        holds=found.holds(),
        does_not_hold=found.does_not_hold(),
        landlock_abi=landlock.abi(),
        bubblewrap_refusal=refusal,
        memory_limit="the kernel (control group)" if _has_groups() else "a watch, four times a second",
        advice=tuple(advice(refusal)),
    )


def _has_groups() -> bool:
    made = cgroup.make("comfygov-probe", 1 << 30, 100) if sys.platform == "linux" else None
    if made:
        made.remove()
    return made is not None


def advice(refusal: str) -> list[str]:
    """What to install or to allow, the strongest first; empty where bubblewrap works."""
    if sys.platform != "linux":
        return ["there is no sandbox on this system: try packs that you do not trust on Linux, or in a container"]
    if not refusal:
        return []
    if refusal == "it is not installed":
        return ["install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)"]
    allow = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an AppArmor profile for bwrap)"
    container = "in a container: start it with --security-opt seccomp=unconfined"
    return [f"bubblewrap is there and may not be used ({refusal}): {allow}; {container}"]


def note(chosen: sandbox.Sandbox) -> str:
    """The sentence for a trial that is not in the strongest box, or whose network is not held; else nothing."""
    loose = chosen.name == "none" or {"TCP connections", "UDP"} & {*chosen.does_not_hold()}
    said = ['`network = "deny"` is not held here'] if loose and chosen.network == "deny" else []
    if chosen.name == "none":
        said.append("this trial runs without a sandbox: a pack can do what you can do")
    hints = advice(bubblewrap.refusal()) if said or chosen.name == "landlock" else []
    if chosen.name == "landlock" and hints:
        said.append("the trial runs under Landlock")
    return "; ".join([*said, *hints])
