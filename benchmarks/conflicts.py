"""What locking, explaining and suggesting cost in an environment of 60 packs with real packages.

python -m benchmarks.conflicts [--runs N]

The packages come from PyPI; ComfyUI is the stand-in, since nothing here depends on its boot.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kit.repos import make_comfyui, make_pack

from benchmarks.homes import Own
from benchmarks.measure import Budget, Row, print_table, say
from comfygov.ports import process
from comfygov.ports.uv import find_binary

RUNS = 3
# What node packs ask for: one pack each.
LINES = (
    *("matplotlib", "scikit-image", "piexif", "GitPython", "dill", "numba", "colour-science", "gguf", "sentencepiece"),
    *("protobuf", "color-matcher", "mss", "opencv-python-headless", "imageio", "imageio-ffmpeg", "openai", "requests"),
    *("aiohttp", "rich", "pandas", "shapely", "trimesh", "soundfile", "librosa", "ftfy", "lark", "pyyaml", "omegaconf"),
    *("huggingface-hub", "tokenizers", "safetensors", "onnx", "loguru", "toml", "simpleeval", "blend-modes", "addict"),
    *("webcolors", "cachetools", "jsonschema", "numexpr", "yapf", "albumentations", "pydantic", "httpx", "websockets"),
    *("tqdm", "psutil", "networkx", "sympy", "einops", "regex", "python-dotenv", "beautifulsoup4", "lxml", "markdown"),
    *("jinja2", "scipy", "pillow", "numpy>=2"),
)
FRESH, CLASH = "pymatting", "numpy<2"


@dataclass
class Bench:
    """The home with its packs, and a plain uv project with the same requirements."""

    governed: Own
    bare: Path

    def measure(self) -> dict[str, float]:
        lock = self._tried("fresh", 0)["transaction"]["stage_seconds"]["lock"]
        clash = self._tried("clash", 4)
        txid = clash["transaction"]["txid"]
        began = time.perf_counter()
        self.governed.gov("resolve", txid, "--suggest", timeout=300).ok()
        took = time.perf_counter() - began
        self.governed.gov("tx", "abort", txid).ok()
        return {
            "lock": lock,
            "explain": clash["transaction"]["stage_seconds"]["explain the conflict"],
            "refusal": clash["transaction"]["stage_seconds"]["lock"],
            "suggest": took,
            "bare lock": self._uv_lock(FRESH, 0),
            "bare refusal": self._uv_lock(CLASH, 1),
        }

    def _tried(self, name: str, exit_code: int) -> Any:  # noqa: ANN401 (an envelope)
        ran = self.governed.gov("--json", "tx", "run", name, timeout=600)
        if ran.exit_code != exit_code:
            raise SystemExit(repr(ran))
        return ran.data

    def _uv_lock(self, line: str, exit_code: int) -> float:
        """Seconds of `uv lock` after one more group was added to the locked project."""
        project = self.bare.with_name("project")
        shutil.rmtree(project, ignore_errors=True)
        shutil.copytree(self.bare, project)
        text = (project / "pyproject.toml").read_text()
        added = text.replace("[dependency-groups]\n", f'[dependency-groups]\nnode-more = ["{line}"]\n')
        (project / "pyproject.toml").write_text(added)
        began = time.perf_counter()
        argv = [find_binary(), "lock", "--quiet", "--project", str(project), "--python", self._python()]
        done = subprocess.run(argv, env=process.child_environment({}), check=False, capture_output=True)
        if done.returncode != exit_code:
            raise SystemExit(done.stderr.decode())
        return time.perf_counter() - began

    def _python(self) -> str:
        return str((self.governed.home / ".venv-prod" / "bin" / "python").resolve())


def prepare(root: Path) -> Bench:
    governed = Own(root)
    make_comfyui(governed.comfyui_source, "")
    say(f"making a home with {len(LINES)} packs (minutes, when uv's cache is cold)")
    governed.gov("init", "--repo", str(governed.comfyui_source), timeout=600).ok()
    names = [f"pack-{number:02d}" for number in range(len(LINES))]
    for name, line in zip([*names, "fresh", "clash"], [*LINES, FRESH, CLASH], strict=True):
        governed.gov("-q", "node", "add", str(make_pack(root / "packs" / name, f"{line}\n"))).ok()
    txid = governed.json("tx", "run", *names)["transaction"]["txid"]
    governed.gov("tx", "promote", txid, "--approve-core", "--reason", "benchmark", timeout=600).ok()
    bare = root / "bare"
    bare.mkdir()
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(governed.home / name, bare / name)
    return Bench(governed, bare)


def measure(runs: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="comfygov-benchmark-") as root:
        bench = prepare(Path(root))
        bench.measure()  # warms the caches
        rounds = [bench.measure() for _ in range(runs)]
    found = {name: statistics.median(entry[name] for entry in rounds) for name in rounds[0]}
    return [
        Row("lock of one pack more (bare: uv lock)", found["lock"], found["bare lock"], Budget(times=2)),
        Row("refusal of one pack more (bare: uv lock)", found["refusal"], found["bare refusal"], Budget(adds=1)),
        Row("explanation, after the refusal", found["explain"], None, Budget(seconds=3)),
        Row("gov resolve --suggest", found["suggest"], None, Budget(seconds=30)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conflicts", description="Lock, explain, suggest.")
    parser.add_argument("--runs", type=int, default=RUNS)
    print_table(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
