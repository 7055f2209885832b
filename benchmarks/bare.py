"""The same change and the same boot without us: a plain uv project and a plain clone of ComfyUI."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kit.repos import git

from benchmarks import changes
from benchmarks.measure import seconds_of
from comfygov.ports.comfy_api import ComfyApi, free_port
from comfygov.ports.uv import find_binary
from comfygov.resolve.torch_backend import has_accelerator

if TYPE_CHECKING:
    from pathlib import Path

_POLL_SECONDS = 0.05
_READY_SECONDS = 600.0


@dataclass
class Bare:
    """A project and its environment at `project`, a ComfyUI with the same packs at `tree`.

    `before` and `after` are the two pyproject files between which the change lies.
    """

    project: Path
    tree: Path
    env: dict[str, str]
    before: bytes
    before_lock: bytes
    after: bytes

    @classmethod
    def prepare(cls, change: changes.Change) -> Bare:
        """Take both texts of the project from the governed home, and clone the code that it has."""
        home, root = change.home, change.governed.root / "bare"
        before, before_lock = (home / "pyproject.toml").read_bytes(), (home / "uv.lock").read_bytes()
        after = _after(change)
        bare = cls(root / "project", root / "ComfyUI", _environment(change), before, before_lock, after)
        bare.project.mkdir(parents=True)
        bare._clone(home / "ComfyUI")
        bare.reset()
        return bare

    def _clone(self, production: Path) -> None:
        """ComfyUI and the packs that a boot of production loads."""
        git(production, "clone", "-q", str(production), str(self.tree))
        for pack in sorted((production / "custom_nodes").iterdir()):
            if (pack / ".git").exists():
                git(production, "clone", "-q", str(pack), str(self.tree / "custom_nodes" / pack.name))

    def reset(self) -> None:
        """Back to the environment before the change; not measured."""
        (self.project / "pyproject.toml").write_bytes(self.before)
        (self.project / "uv.lock").write_bytes(self.before_lock)
        self._uv("sync")

    def _uv(self, command: str) -> float:
        return seconds_of((find_binary(), command, "--project", str(self.project)), self.env)

    def measure(self) -> dict[str, float]:
        """Seconds of the change and of a boot with it; the project is as before afterwards."""
        (self.project / "pyproject.toml").write_bytes(self.after)
        change = self._uv("lock") + self._uv("sync")
        ready, boot = self.boot()
        self.reset()
        return {"uv": change, "bare ready": ready, "bare boot": boot}

    def boot(self) -> tuple[float, float]:
        """Seconds until ComfyUI answers, and until it has ended after SIGTERM."""
        port = free_port()
        python = str(self.project / ".venv" / "bin" / "python")
        device = () if has_accelerator(sys.platform) else ("--cpu",)
        argv = [python, "main.py", *device, "--disable-auto-launch", "--port", str(port)]
        with (self.project / "boot.log").open("wb") as log:
            started = time.perf_counter()
            child = subprocess.Popen(argv, cwd=self.tree, env=self.env, stdout=log, stderr=log)
            try:
                _wait(child, ComfyApi("127.0.0.1", port), started)
                ready = time.perf_counter() - started
            finally:
                child.terminate()
                child.wait()
            return ready, time.perf_counter() - started


def _wait(child: subprocess.Popen[bytes], api: ComfyApi, started: float) -> None:
    while not api.alive():
        if child.poll() is not None or time.perf_counter() - started > _READY_SECONDS:
            raise SystemExit("the bare ComfyUI does not come up")
        time.sleep(_POLL_SECONDS)


def _after(change: changes.Change) -> bytes:
    """The project's text with the change, as our own lock stage writes it in a first, unmeasured trial."""
    change.time("tx", "run", changes.PACK)
    txid = change.newest_record()["txid"]
    project: Path = change.home / "state" / "work" / txid
    text = (project / "pyproject.toml").read_bytes()
    change.time("tx", "abort", txid)
    return text


def _environment(change: changes.Change) -> dict[str, str]:
    """The caches that the governed home uses, and nothing that would lead uv or Python elsewhere."""
    given = change.governed.environment()
    kept = {name: value for name, value in given.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "PIP_"))}
    # What the home's environments are built on: the links end at the real interpreter.
    python = os.path.realpath(change.home / ".venv-prod" / "bin" / "python")
    return {**kept, "UV_PYTHON": python, "UV_NO_PROGRESS": "1"}
