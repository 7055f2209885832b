"""Control groups: a bound on the memory and the number of processes of a whole tree, held by the kernel (Linux).

Version 2 where a group of our own may be made beside the one that we are in (a desktop's session allows it),
version 1 where its trees may be written (root, many containers). Elsewhere there is none, and that is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_SHELL = 'for group in $COMFYGOV_GROUPS; do echo $$ > "$group/cgroup.procs" || exit 125; done; '
_JOIN = _SHELL + 'unset COMFYGOV_GROUPS; exec "$@"'


@dataclass(frozen=True)
class Group:
    """Folders of the control group file system that bound one process tree."""

    folders: tuple[Path, ...]
    memory_bytes: int

    def prefix(self) -> list[str]:
        """The words before a command that is to run in the group."""
        joined = " ".join(map(str, self.folders))
        return ["/usr/bin/env", f"COMFYGOV_GROUPS={joined}", "/bin/sh", "-c", _JOIN, "sh"]

    def was_exceeded(self) -> bool:
        """True when the kernel had to end a process of the group for its memory."""
        return any(_kills(folder) for folder in self.folders)

    def remove(self) -> None:
        for folder in self.folders:
            try:
                folder.rmdir()
            except OSError:
                continue  # somebody is dying in it; an empty group costs nothing


def _kills(folder: Path) -> bool:
    for name in ("memory.events", "memory.oom_control"):
        try:
            lines = (folder / name).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)
    return False


def make(name: str, memory_bytes: int, processes: int) -> Group | None:
    """A group with these bounds; None where this process may not make one."""
    places = _own_groups()
    folders = _version_2(places.get("", ""), name, memory_bytes, processes)
    if not folders:
        folders = [
            *_version_1("memory", places, name, {"memory.limit_in_bytes": memory_bytes}),
            *_version_1("pids", places, name, {"pids.max": processes}),
        ]
    return Group(tuple(folders), memory_bytes) if folders else None


def _own_groups() -> dict[str, str]:
    """Controller -> our group's path; the empty name is version 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}


def _version_2(own: str, name: str, memory_bytes: int, processes: int) -> list[Path]:
    if not (_MOUNT / "cgroup.controllers").is_file():
        return []
    here = _MOUNT / own.strip("/")
    for parent in (here.parent, here):
        folder = parent / name
        if parent != _MOUNT.parent and _made(folder, {"memory.max": memory_bytes, "pids.max": processes}):
            return [folder]
    return []


def _version_1(controller: str, places: dict[str, str], name: str, bounds: dict[str, int]) -> list[Path]:
    if controller not in places:
        return []
    folder = _MOUNT / controller / places[controller].strip("/") / name
    return [folder] if _made(folder, bounds) else []


def _made(folder: Path, bounds: dict[str, int]) -> bool:
    try:
        folder.mkdir()
    except OSError:
        return False
    try:
        for file, bound in bounds.items():
            (folder / file).write_text(str(bound), encoding="ascii")
    except OSError:
        folder.rmdir()
        return False
    return True
