"""RunPod's control plane on loopback, as its SDK (1.12) talks to it: jobs out, results in, stop signals, pings."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class ControlPlane:
    """`posted` are the bodies for each job, in their order: progress, parts of streams, and the result."""

    waiting: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)
    posted: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    streamed: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    stops: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    batches: list[int] = field(default_factory=list)
    pings: int = 0
    port: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def env(self) -> dict[str, str]:
        base = f"http://127.0.0.1:{self.port}"
        return {
            "RUNPOD_POD_ID": "w1",
            "RUNPOD_ENDPOINT_ID": "e",
            "RUNPOD_AI_API_KEY": "key-of-the-control-plane",
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/e/$ID?gpu=x",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/e/$RUNPOD_POD_ID/$ID?gpu=x",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/e/$RUNPOD_POD_ID/$ID?gpu=x",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/e/$RUNPOD_POD_ID",
        }

    def put(self, job_id: str, **given: Any) -> str:
        self.waiting.put({"id": job_id, "input": given})
        return job_id

    def result(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """What the worker posted as the end of the job."""
        with self.changed:
            assert self.changed.wait_for(lambda: self._ended(job_id), seconds), dict(self.posted)
            (found,) = self._ended(job_id)
        return found

    def _ended(self, job_id: str) -> list[dict[str, Any]]:
        return [body for body in self.posted[job_id] if body.get("status") != "IN_PROGRESS"]

    def progress(self, job_id: str) -> list[Any]:
        return [body["output"] for body in self.posted[job_id] if body.get("status") == "IN_PROGRESS"]

    # -- routes ------------------------------------------------------------------------------------

    def take(self, most: int, *, batch: bool) -> object:
        """Jobs, or None after a while (the SDK asks again)."""
        found = []
        try:
            found.append(self.waiting.get(timeout=0.5))
            time.sleep(0.1 if batch else 0)
            while len(found) < most:
                found.append(self.waiting.get_nowait())
        except queue.Empty:
            pass
        if batch:
            self.batches.append(len(found))
        return (found if batch else found[0]) if found else None

    def stop_signals(self) -> object:
        try:
            return {"jobsToStop": [self.stops.get(timeout=0.5)]}
        except queue.Empty:
            return None

    def took(self, kind: str, job_id: str, body: bytes) -> None:
        with self.changed:
            (self.streamed if kind == "job-stream" else self.posted)[job_id].append(json.loads(body))
            self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plane: ControlPlane

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        kind = parts.path.split("/")[1]
        if kind == "job-take-batch":
            self._answer(self.plane.take(int(parse_qs(parts.query)["batch_size"][0]), batch=True))
        elif kind == "job-take":
            self._answer(self.plane.take(1, batch=False))
        elif kind == "job-stop":
            self._answer(self.plane.stop_signals())
        else:
            self.plane.pings += 1
            self._answer("ok")

    def do_POST(self) -> None:
        kind, _, _, job_id = urlsplit(self.path).path.strip("/").split("/")
        self.plane.took(kind, job_id, self.rfile.read(int(self.headers["Content-Length"])))
        self._answer("ok")

    def _answer(self, value: object) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        try:
            self.send_response(204 if value is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the worker ended

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def control_plane() -> Iterator[ControlPlane]:
    plane = ControlPlane()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"plane": plane}))
    plane.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield plane
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
