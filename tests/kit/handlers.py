"""A runtime file on the stand-in, and handlers started on it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kit.governed import Governed
from tests.kit.repos import PACK, make_comfyui

Graph = dict[str, Any]


def picture(color: int = 255, *, width: int = 64, height: int = 32, count: int = 1, prefix: str = "out") -> Graph:
    """A workflow that saves `count` pictures in one colour."""
    size = {"width": width, "height": height, "batch_size": count, "color": color}
    return {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def sleep(seconds: float) -> Graph:
    return {"1": {"class_type": "StandinSleep", "inputs": {"seconds": seconds}}}


def inverted(name: str) -> Graph:
    """The negative of an input picture."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "out"}},
    }


@dataclass
class Stage(Governed):
    """A stand-in ComfyUI without a home, as an image has it: read, never written."""

    @property
    def comfyui(self) -> Path:
        return self.root / "ComfyUI"

    @property
    def runtime(self) -> Path:
        return self.root / "runtime.json"

    def prepare(self, packs: dict[str, str] | None = None, **fields: Any) -> Stage:
        """Write the tree once, packs (name -> source of `__init__.py`) and the runtime file."""
        if not self.comfyui.exists():
            make_comfyui(self.comfyui)
        for name, source in (packs or {}).items():
            folder = self.comfyui / "custom_nodes" / name
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").write_text(source)
        paths = self.root / "paths.yaml"
        paths.write_text(f"ours:\n  base_path: {self.root / 'models'}\n  checkpoints: checkpoints\n")
        runtime = {
            "version": "staged",
            "digest": "sha256:" + "0" * 64,
            "python": sys.executable,
            "comfyui": str(self.comfyui),
            "packs": list(packs or {}),
            "model_paths_files": [str(paths)],
            "extra_args": ["--cpu"],
            **fields,
        }
        self.runtime.write_text(json.dumps(runtime))
        return self

    def workflow(self, graph: object) -> str:
        path = self.root / "workflow.json"
        path.write_text(json.dumps(graph))
        return str(path)

    def handle(self, graph: object, *options: str) -> Any:
        """`gov handler run` that must succeed; the result."""
        ran = self.gov("handler", "run", "--runtime", str(self.runtime), "--workflow", self.workflow(graph), *options)
        return json.loads(ran.ok().stdout)


def pack(*classes: str) -> str:
    """The source of a pack that registers classes."""
    return "".join(PACK % {"name": name} for name in classes)


def living(marker: Path) -> list[str]:
    """Command lines of processes that name `marker`."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(marker) in line and not line.startswith("ps ")]
