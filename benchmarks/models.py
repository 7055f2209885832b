"""`gov models` against sha256sum and curl in the same run.

python -m benchmarks.models [--runs N] [--gigabytes-verify 8] [--files 40] [--gigabytes-fetch 2] [--directory DIR]

The server is a process of its own that sends with sendfile. curl writes its file and makes no sum; to be fair both
ways, it is measured alone, and followed by `sync FILE` and sha256sum, which is what a verified download needs. Peak
memory and processor time are those of the whole gov process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Budget, Row, in_turn, print_table, say, seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS = 3
_BLOCK = 1 << 24

_SERVER = """
import http.server, os, re, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        with open(sys.argv[1], "rb") as file:
            size = os.fstat(file.fileno()).st_size
            asked = re.fullmatch(r"bytes=(\\d+)-(\\d*)", self.headers.get("range", ""))
            start = int(asked[1]) if asked else 0
            end = min(size, int(asked[2]) + 1) if asked and asked[2] else size
            self.send_response(206 if asked else 200)
            if asked: self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - start)); self.send_header("ETag", '"1"'); self.end_headers()
            while start < end:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, min(end - start, 1 << 22))
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer): daemon_threads = True
server = Server(("127.0.0.1", 0), Handler); print(server.server_address[1], flush=True); server.serve_forever()
"""


def measure(runs: int, directory: Path, verify_bytes: int, files: int, fetch_bytes: int) -> list[Row]:
    """First and second verify, then one download."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        root = Path(name)
        rows = _verify(runs, _Tool(root / "verify"), verify_bytes, files)
        shutil.rmtree(root / "verify")
        return [*rows, *_fetch(runs, _Tool(root / "fetch"), fetch_bytes)]


@dataclass
class _Tool:
    """`gov` with caches of its own, and the other tools."""

    root: Path

    def __post_init__(self) -> None:
        self.root.mkdir()
        self.models = self.root / "models"
        self.models.mkdir()
        self.env = {**os.environ, "HOME": str(self.root), "COMFYGOV_CACHE": str(self.root / "cache")}

    def forget(self) -> None:
        shutil.rmtree(self.root / "cache", ignore_errors=True)

    def spec(self, entries: Sequence[dict[str, object]]) -> None:
        (self.root / "spec.json").write_text(json.dumps({"models": entries}))

    def gov(self) -> float:
        where = ("--models-dir", str(self.models), "--spec", str(self.root / "spec.json"))
        return self.run(sys.executable, "-I", "-m", "comfygov", "-q", "models", "verify", *where)

    def shell(self, script: str) -> float:
        return self.run(shutil.which("sh") or "/bin/sh", "-c", script)

    def run(self, *argv: str) -> float:
        return seconds_of(argv, self.env)


def _write(path: Path, count: int, seed: int) -> str:
    """Bytes that no file system makes smaller; returns their sum."""
    block = hashlib.shake_128(seed.to_bytes(4, "big")).digest(_BLOCK)
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while count:
            part = block[: min(count, _BLOCK)]
            file.write(part)
            digest.update(part)
            count -= len(part)
    old = time.time() - 100
    os.utime(path, (old, old))
    return digest.hexdigest()


def _verify(runs: int, tool: _Tool, total: int, files: int) -> list[Row]:
    say(f"writing {files} files, {total / 1e9:.1f} GB")
    entries: list[dict[str, object]] = []
    for number in range(files):
        target = f"checkpoints/{number}.safetensors"
        checksum = _write(tool.models / target, total // files, number)
        entries.append({"target_path": target, "checksum": checksum, "size": total // files})
    tool.spec(entries)

    def first() -> float:
        tool.forget()
        return tool.gov()

    cores = os.cpu_count() or 1
    all_files = f"find {tool.models} -type f -print0 | xargs -0 -n 1 -P {cores} sha256sum"
    ours, bare = in_turn(runs, first, lambda: tool.shell(all_files))
    before = _processor_seconds()
    (again,) = in_turn(runs, tool.gov)
    say(f"second verify: {(_processor_seconds() - before) / (runs + 1) * 1000:.0f} ms of processor time")
    name = f"{files} files, {total / 1e9:.1f} GB"
    return [
        Row(f"first verify, {name}; bare: sha256sum on {cores} cores", ours, bare, Budget(times=1 / 0.9)),
        Row(f"second verify, {name}", again, None, Budget(seconds=0.1)),
    ]


def _processor_seconds() -> float:
    """User and system, of all processes that have ended: what a busy machine does not change much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _fetch(runs: int, tool: _Tool, count: int) -> list[Row]:
    say(f"writing {count / 1e9:.1f} GB to be served")
    served = tool.root / "served"
    checksum = _write(served, count, 99)
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(served)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/m"
        tool.spec([{"target_path": "vae/m.bin", "source": url, "checksum": checksum, "size": count}])
        return _fetch_rows(runs, tool, url, count)
    finally:
        server.kill()
        server.wait()


def _fetch_rows(runs: int, tool: _Tool, url: str, count: int) -> list[Row]:
    used: list[tuple[float, float]] = []
    taken = tool.root / "taken"

    def ours() -> float:
        tool.forget()
        shutil.rmtree(tool.models)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = tool.gov()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append((after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime))
        return took

    def bare(rest: str) -> float:
        taken.unlink(missing_ok=True)
        return tool.shell(f"curl -s -f -o {taken} {url} {rest}")

    checked = f"&& sync {taken} && sha256sum {taken}"
    gov, curl, verified = in_turn(runs, ours, lambda: bare(""), lambda: bare(checked))
    user, system = (sorted(column)[len(used) // 2] for column in zip(*used, strict=True))
    say(f"gov: {user:.2f} s user and {system:.2f} s system, {(user + system) / (count / 2**30):.2f} s per GiB")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    say(f"peak memory of any process of this run: {peak / 1024:.0f} MB")
    name = f"fetch {count / 1e9:.1f} GB"
    return [
        Row(f"{name}; bare: curl (no sum, not flushed)", gov, curl, Budget(times=1 / 0.95)),
        Row(f"{name}; bare: curl, sync, sha256sum", gov, verified, Budget(times=1 / 0.95)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--gigabytes-verify", type=float, default=8.0)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--gigabytes-fetch", type=float, default=2.0)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    sizes = (int(given.gigabytes_verify * 1e9), given.files, int(given.gigabytes_fetch * 1e9))
    print_table(measure(given.runs, given.directory, *sizes))


if __name__ == "__main__":
    main()
