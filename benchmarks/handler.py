"""What the handler adds to a job over direct calls to ComfyUI's API, and to the start of ComfyUI.

python -m benchmarks.handler [--jobs N] [--starts N] [--runtime FILE]

--runtime takes a runtime file, so that a real ComfyUI is measured; else the stand-in, whose start is so short that
Python itself shows. Both sides ask the history as often, and both turn the picture into base64.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from tests.kit.handlers import Stage, picture

from benchmarks.measure import Budget, Row, in_turn, print_table, say
from comfygov.delivery import job as jobs
from comfygov.model.handler import Settings
from comfygov.ops.handler_runtime import VersionChoice
from comfygov.ops.handler_worker import WorkerRequest, worker
from comfygov.ports.comfy_api import ComfyApi, free_port
from comfygov.ports.progress import Silent

if TYPE_CHECKING:
    from comfygov.delivery.handler import Handler

JOBS, STARTS = 100, 5
_POLL_SECONDS = 0.003
_START_SECONDS = 600.0


def added_time(runtime: Path, count: int) -> Row:
    """Median seconds of a job that makes one small picture."""
    request = WorkerRequest(VersionChoice(runtime=str(runtime)))
    with worker(request, Settings(), "benchmark", Silent(), lambda _line: None) as handler:
        api = handler.supervisor.first().api
        # A colour of its own each time: neither side is answered from the cache.
        ours, bare = in_turn(count, lambda: _by_handler(handler), lambda: _directly(api, handler))
    return Row("a job (bare: direct calls to the API)", ours, bare, Budget(adds=0.015))


def _graph() -> dict[str, Any]:
    return picture(int.from_bytes(os.urandom(3), "big"), width=64, height=64, prefix=uuid.uuid4().hex)


def _by_handler(handler: Handler) -> float:
    raw = {"workflow": _graph()}
    started = time.perf_counter()
    result = handler.run(jobs.new_id(), raw, handler.deadline(raw), lambda _report: None)
    json.dumps([one.data for one in result.images])
    return time.perf_counter() - started


def _directly(api: ComfyApi, handler: Handler) -> float:
    graph, prompt_id = _graph(), uuid.uuid4().hex
    started = time.perf_counter()
    api.submit(graph, prompt_id)
    while not (entry := api.get(f"/history/{prompt_id}").get(prompt_id)):
        time.sleep(_POLL_SECONDS)
    (image,) = entry["outputs"]["2"]["images"]
    data = api.view(image["filename"], image["subfolder"], image["type"])
    json.dumps([base64.b64encode(data).decode()])
    took = time.perf_counter() - started
    (handler.supervisor.work.output / image["filename"]).unlink()
    return took


def start_time(runtime: Path, count: int) -> Row:
    """Median seconds from nothing to ready."""
    ours, bare = in_turn(count, lambda: _start_worker(runtime), lambda: _start_bare(runtime))
    return Row("start of a worker (bare: ComfyUI alone)", ours, bare, Budget(times=1.1))


def _start_worker(runtime: Path) -> float:
    port = free_port()
    argv = [sys.executable, "-m", "comfygov", "-q", "handler", "serve", "--runtime", str(runtime)]
    return _until(200, f"http://127.0.0.1:{port}/ready", [*argv, "--http", f"127.0.0.1:{port}"], Path.cwd())


def _start_bare(runtime: Path) -> float:
    """As the handler starts it, with a work directory of its own."""
    said, port = json.loads(runtime.read_text()), free_port()
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "user").mkdir()
        argv = [said["python"], "main.py", "--listen", "127.0.0.1", "--port", str(port), *said["extra_args"]]
        argv += ["--output-directory", work, "--input-directory", work, "--temp-directory", work]
        argv += ["--user-directory", f"{work}/user", "--database-url", f"sqlite:///{work}/user/db"]
        argv += ["--extra-model-paths-config", *said["model_paths_files"], "--disable-all-custom-nodes"]
        argv += ["--whitelist-custom-nodes", *said["packs"]] if said["packs"] else []
        return _until(200, f"http://127.0.0.1:{port}/system_stats", argv, Path(said["comfyui"]))


def _until(status: int, url: str, argv: list[str], cwd: Path) -> float:
    pool = urllib3.PoolManager(retries=False, timeout=2.0)
    started = time.perf_counter()
    child = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - started < _START_SECONDS:
            try:
                if pool.request("GET", url).status == status:
                    return time.perf_counter() - started
            except urllib3.exceptions.HTTPError:
                pass
            if child.poll() is not None:
                raise SystemExit(f"it ended: {argv}")
            time.sleep(0.01)
        raise SystemExit(f"it did not answer: {argv}")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)


def measure(count: int, starts: int, runtime: Path | None) -> list[Row]:
    """Both rows, on the stand-in unless a `runtime` file is given; without `starts` the first alone."""
    with tempfile.TemporaryDirectory(prefix="comfygov-benchmark-") as root:
        runtime = runtime or Stage(Path(root)).prepare().runtime
        say("jobs")
        rows = [added_time(runtime, count)]
        if starts:
            say("starts")
            rows.append(start_time(runtime, starts))
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handler", description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--runtime", type=Path, help="a runtime file to start from")
    given = parser.parse_args()
    print_table(measure(given.jobs, given.starts, given.runtime and given.runtime.absolute()))


if __name__ == "__main__":
    main()
