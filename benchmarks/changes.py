"""The change that is measured: a pack that needs one new package, tried, promoted, and taken back."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.measure import seconds_of
from comfygov.ports import fs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.governed import Governed

PACK = "benchmark-pack"
_BOOT = "boot ComfyUI"
_TRIAL = ("private code tree", "install.py", _BOOT)
_ROLLBACKS = 2


@dataclass
class Change:
    """A home whose head is `base`, where PACK is registered and not yet promoted."""

    governed: Governed
    base: str
    pack_source: Path

    @property
    def home(self) -> Path:
        return self.governed.home

    def measure(self) -> dict[str, float]:
        """Seconds of one life of the change; the home is at `base` again afterwards."""
        tried = self.time("tx", "run", PACK)
        record = self.newest_record()
        promoted = self.time("tx", "promote", record["txid"])
        with_change = self.governed.head()
        rolled_back = statistics.median(self._there_and_back(with_change))
        self._forget_generation(record["promotion_plan"]["generation"])
        stages = record["stage_seconds"]
        trial = sum(stages.get(name, 0.0) for name in _TRIAL)
        return {
            "tx run": tried,
            "promote": promoted,
            "change": promoted + stages["lock"] + stages["candidate environment"],
            "outside": tried - trial + promoted,
            "boot": stages[_BOOT],
            "ready": record["observed"]["boot_seconds"],
            "rollback": rolled_back,
        }

    def time(self, *arguments: str) -> float:
        """Wall time of one `gov`."""
        return seconds_of((sys.executable, "-I", "-m", "comfygov", *arguments), self.governed.environment())

    def newest_record(self) -> dict[str, Any]:
        records = (self.home / "state" / "transactions").glob("tx*.json")
        newest = max(records, key=lambda path: int(path.stem[2:]))
        found: dict[str, Any] = json.loads(newest.read_bytes())
        return found

    def _there_and_back(self, with_change: str) -> list[float]:
        """Rollbacks between two states whose environments are both there; the last one ends at `base`."""
        # Every rollback makes two snapshots, and retention would take away a `base` that stays the first.
        taken = [self.time("rollback", self.base)]
        for _ in range(_ROLLBACKS):
            taken += [self.time("rollback", with_change), self.time("rollback", self.base)]
        self.base = self.governed.head()
        return taken

    def _forget_generation(self, generation: str) -> None:
        """The next promote must build its environment again, or there is nothing to measure."""
        fs.remove_tree(self.home / ".venvs" / generation)


def prepare(governed: Governed, package: str) -> Change:
    """Register a pack that needs `package`, which the environment must not hold yet."""
    if package in {name.rsplit("-", 1)[0] for name in governed.installed()}:
        raise SystemExit(f"this home has {package} already: the change would be none")
    if PACK in _registered(governed):
        governed.gov("node", "remove", PACK, "--purge-code").ok()
    source = governed.pack(PACK, f"{package}\n")
    governed.gov("node", "add", str(source)).ok()
    return Change(governed, governed.head(), source)


def promote(governed: Governed, pack: str) -> None:
    """Add, try and promote a pack by its address, unless it is there."""
    before = _registered(governed)
    if pack.rstrip("/").rpartition("/")[2].removesuffix(".git") in before:
        return
    name = governed.json("node", "add", pack)["plugin"]["id"]
    done = governed.gov("tx", "run", name, "--json", timeout=1800).ok()
    governed.gov("tx", "promote", done.data["transaction"]["txid"], "--approve-core", "--reason", "benchmark").ok()


def _registered(governed: Governed) -> set[str]:
    return {plugin["id"] for plugin in governed.json("node", "list")["plugins"]}
