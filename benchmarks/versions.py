"""`gov version clone` against `git clone --local` and `uv sync` of the same content, in the same run.

python -m benchmarks.versions --home DIR [--runs N]

The home is yours; everything else goes to a temporary folder on the same file system. The bare way makes no
bytecode, no check and no proof; with bytecode it does what a first start has to do otherwise. The clone shares the
environment of the home, as every clone of a version does on the machine that has it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Budget, Row, in_turn, print_table, seconds_of
from comfygov.ports.uv import find_binary
from comfygov.truth.home import Home
from comfygov.truth.settings import read_config
from comfygov.truth.snapshots import Snapshots

RUNS = 5


def measure(runs: int, home: Path) -> list[Row]:
    """A clone on this machine, and both bare ways."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".clones-") as name:
        root = Path(name)
        lock = root / "v.lock.json"
        gov = [sys.executable, "-I", "-m", "comfygov"]
        env = {**os.environ, "COMFY_HOME": str(home)}
        seconds_of([*gov, "version", "create", "v", "--output", str(lock)], env)

        python = read_config(home / "config.toml").python.interpreter
        words = [*gov, "version", "clone", "--lock", str(lock), "--python", python]

        def clone() -> float:
            shutil.rmtree(root / "clone", ignore_errors=True)
            return seconds_of([*words, "--target", str(root / "clone")], env)

        def bare(*options: str) -> float:
            shutil.rmtree(root / "bare", ignore_errors=True)
            (root / "bare").mkdir()
            return _bare(home, root / "bare", options)

        ours, plain, compiled = in_turn(runs, clone, bare, lambda: bare("--compile-bytecode"))
    return [
        Row("clone, against git clone --local + uv sync", ours, plain, Budget(times=1.3)),
        Row("the same with bytecode", ours, compiled, Budget(times=1.3)),
    ]


def _bare(root: Path, target: Path, options: tuple[str, ...]) -> float:
    home = Home(root, read_config(root / "config.toml"))
    snapshots = Snapshots(home)
    state = snapshots.read(snapshots.require_head().snapshot)
    git = shutil.which("git") or "git"
    spent = seconds_of([git, "clone", "-q", "--local", str(home.comfyui), str(target / "ComfyUI")], os.environ)
    for plugin in state.registry.plugins:
        into = target / "ComfyUI" / "custom_nodes" / plugin.id
        spent += seconds_of([git, "clone", "-q", "--local", str(home.custom_nodes / plugin.id), str(into)], os.environ)
    (target / "pyproject.toml").write_bytes(state.pyproject)
    (target / "uv.lock").write_bytes(state.uv_lock)
    words = ["sync", "-q", "--frozen", "--exact", "--all-groups", "--no-install-project", "--project", str(target)]
    words += ["--python", home.config.python.interpreter, *options]
    return spent + seconds_of([find_binary(), *words], os.environ)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description="Ours against the bare tools.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args()
    print_table(measure(given.runs, given.home.absolute()))


if __name__ == "__main__":
    main()
