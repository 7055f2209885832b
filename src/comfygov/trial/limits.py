"""How much a trial may take: memory, processes and disk. The kernel holds it where it can (control groups); a watch
ends what is over it elsewhere."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from comfygov.ports import cgroup, fs, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MAX_PROCESSES = 2048
_LOOK_SECONDS = 0.25
# What a disk keeps free for production, which may lie on it too.
_DISK_RESERVE_BYTES = 512 << 20
# What it prints stays when it is gone.
_MAX_PRINTED_BYTES = 1 << 30


@dataclass
class Limits:
    """The bounds of one trial; `memory_bytes` 0 is no bound. `broken` says which was exceeded, in words."""

    memory_bytes: int = 0
    max_processes: int = MAX_PROCESSES
    broken: str = ""
    kernel: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def group(self, run_id: str) -> Iterator[list[str]]:
        """The words before a command that puts it into a control group, for the block; none without one."""
        name = f"comfygov-{abs(hash(run_id)):x}-{id(self):x}"
        made = cgroup.make(name, self.memory_bytes, self.max_processes) if self.memory_bytes else None
        self.kernel = made is not None
        try:
            yield made.prefix() if made else []
        finally:
            if made:
                if made.was_exceeded():
                    self.broken = self._too_much_memory()
                made.remove()

    def _too_much_memory(self) -> str:
        return f"it used more than {self.memory_bytes / (1 << 30):.1f} GiB of memory ([tx] memory_limit)"

    @contextmanager
    def watched(
        self, members: Callable[[], set[int]], disk: Path, end: Callable[[], None], logs: Sequence[Path] = ()
    ) -> Iterator[None]:
        """Look at the living processes, and at what they print to `logs`, every quarter of a second, for the block;
        `end` them when a bound is broken."""
        self._stop.clear()
        start_free = fs.free_bytes(disk)

        def look() -> None:
            while not self._stop.wait(_LOOK_SECONDS):
                self.broken = self.broken or self._exceeded(members(), disk, start_free) or _printed(logs)
                if self.broken:
                    end()
                    return

        thread = threading.Thread(target=look, name="trial limits", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _exceeded(self, pids: set[int], disk: Path, start_free: int) -> str:
        if len(pids) > self.max_processes:
            return f"it started more than {self.max_processes} processes"
        free = fs.free_bytes(disk)
        if free < _DISK_RESERVE_BYTES < start_free:
            return f"it filled the disk: {free >> 20} MiB are left"
        if self.memory_bytes and process.private_bytes(pids) > self.memory_bytes:
            return self._too_much_memory()
        return ""


def _printed(logs: Sequence[Path]) -> str:
    size = sum(log.stat().st_size for log in logs if log.is_file())
    return f"it printed more than {_MAX_PRINTED_BYTES >> 20} MiB" if size > _MAX_PRINTED_BYTES else ""


def memory_bytes(setting: str) -> int:
    """`16G`, `800M`, `75%` of this machine's memory, or `none` (0). Raises ValueError on anything else."""
    text = setting.strip().upper().removesuffix("IB").removesuffix("B")
    if text == "NONE":
        return 0
    if text.endswith("%"):
        share = float(text[:-1])
        if not 0 < share <= 100:
            raise ValueError(setting)
        return int(process.machine_memory_bytes() * share / 100)
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(text[-1:], 0)
    amount = float(text[:-1]) if unit else float(text)
    if amount <= 0:
        raise ValueError(setting)
    return int(amount * (unit or 1))
