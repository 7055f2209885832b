"""A runtime file on the stand-in, and handlers started on it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import urllib3

from comfygov.delivery.handler import Handler
from comfygov.model.delivery import JobResult
from comfygov.model.handler import Settings
from comfygov.ops.handler_runtime import VersionChoice
from comfygov.ops.handler_worker import WorkerRequest, worker
from comfygov.ports.progress import Silent
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

    def environment(self) -> dict[str, str]:
        return {"COMFYGOV_STATUS_FILE": str(self.root / "status.json"), **super().environment()}

    def workflow(self, graph: object) -> str:
        path = self.root / "workflow.json"
        path.write_text(json.dumps(graph))
        return str(path)

    def handle(self, graph: object, *options: str) -> Any:
        """`gov handler run` that must succeed; the result."""
        ran = self.gov("handler", "run", "--runtime", str(self.runtime), "--workflow", self.workflow(graph), *options)
        return json.loads(ran.ok().stdout)

    @contextmanager
    def inside(self, settings: Settings | None = None) -> Iterator[Handler]:
        """A handler in this very process, with a ComfyUI that is ready."""
        request = WorkerRequest(VersionChoice(runtime=str(self.runtime)), work_dir=str(self.root / "inside"))
        with worker(request, settings or Settings(), "tests", Silent(), lambda _line: None) as handler:
            handler.supervisor.first()
            yield handler

    @contextmanager
    def serving(self, *options: str, http: bool = True) -> Iterator[Serving]:
        """`gov handler serve`, on a free port or from RunPod, for the block; ended by SIGTERM."""
        where = ("--http", "127.0.0.1:0") if http else ()
        child = self.start("handler", "serve", "--runtime", str(self.runtime), *where, *options)
        running = Serving(child, self)
        try:
            running.await_line(r"  ready")
            yield running
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(40)
            finally:
                child.kill()
                running.close()


@dataclass
class Serving:
    """A worker that listens."""

    child: subprocess.Popen[str]
    stage: Stage
    lines: list[str] = field(default_factory=list)
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, maxsize=16))

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.lines.append(line)

    def close(self) -> None:
        self.child.wait(5)
        self.reader.join(5)
        self.pool.clear()
        for pipe in (self.child.stdout, self.child.stderr):
            if pipe:
                pipe.close()

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def await_line(self, pattern: str, seconds: float = 60) -> str:
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said)):
            lives = self.child.poll() is None and time.monotonic() < until
            assert lives, (self.child.poll(), self.said)
            time.sleep(0.02)
        return found.group()

    @property
    def url(self) -> str:
        return self.await_line(r"(?<=listening on )http://127\.0\.0\.1:\d+(?=\n)")

    def ask(self, method: str, route: str, body: object = None, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.pool.request(
            method, self.url + route, body=data if method == "POST" else None, headers=headers, timeout=90
        )
        return answer.status, json.loads(answer.data)

    def job(self, graph: object, **fields: Any) -> Any:
        """A job from its start to its end: what `/runsync` says."""
        status, answer = self.ask("POST", "/runsync", {"input": {"workflow": graph, **fields}})
        assert status == 200, answer
        return answer

    def done(self, graph: object, **fields: Any) -> Any:
        """The output of a job that must succeed."""
        answer = self.job(graph, **fields)
        assert answer["status"] == "COMPLETED", answer
        return answer["output"]

    def submit(self, graph: object, **fields: Any) -> str:
        status, answer = self.ask("POST", "/run", {"input": {"workflow": graph, **fields}})
        assert status == 200, answer
        return str(answer["id"])

    def until(self, job_id: str, *statuses: str, seconds: float = 40) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            _, answer = self.ask("GET", f"/status/{job_id}")
            if answer["status"] in statuses:
                return answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.02)

    @property
    def comfyui(self) -> psutil.Process:
        """The process that runs main.py now."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            for process in psutil.Process(self.child.pid).children(recursive=True):
                if "main.py" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return process
            time.sleep(0.02)
        raise AssertionError(f"no ComfyUI runs\n{self.said}")


def do(handler: Handler, graph: object, **fields: Any) -> JobResult:
    """A job of a handler that is in this process. Raises JobFailed."""
    raw = {"workflow": graph, **fields}
    return handler.run("j", raw, handler.deadline(raw), lambda _report: None)


def pack(*classes: str) -> str:
    """The source of a pack that registers classes."""
    return "".join(PACK % {"name": name} for name in classes)


def living(marker: Path) -> list[str]:
    """Command lines of processes that name `marker`."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(marker) in line and not line.startswith("ps ")]
