"""Servers that play object storage: two real emulators of Google Cloud Storage, and SeaweedFS for S3.

A test asks for a fixture of tests/conftest.py:

    def test_upload(gcp_storage_emulator: Gcs) -> None: ...     # GCS: resumes uploads; preconditions are not enforced
    def test_create_once(fake_gcs_server: Gcs) -> None: ...     # GCS: enforces preconditions (412); resume is broken
    def test_signed(s3: S3StandIn) -> None: ...                 # our stand-in that checks signatures: always there
    def test_long(seaweedfs: S3Server) -> None: ...             # S3 of other people; only where `weed` is on PATH

`Gcs.env()` and `S3StandIn.env()` are the environment that points a client to it; `put`, `get` and `names` prepare and
look. Each runs once for all tests of a process that ask for it, on loopback and in memory: take a bucket of your own
(`emulator.new_bucket()`). Without PyPI the GCS tests are skipped and say why.

The two programs come from PyPI by requirements/emulators.txt (32 MB, about a second, once for each checkout) into
.venv.emulators. `weed` is 147 MB: too much for every run; docs/07_test_strategy_and_acceptance.md says how to have it.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import urllib3

from comfygov.ports.comfy_api import free_port
from tests.kit.extras import run_uv

ROOT = Path(__file__).parent.parent.parent
_INSTALL_SECONDS = 120
_READY_SECONDS = 60.0
_numbers = count(1)


def new_bucket_name() -> str:
    return f"bucket-{os.getpid()}-{next(_numbers)}"


@dataclass(frozen=True)
class Gcs:
    """A running emulator of Google Cloud Storage's JSON API at `base`. It asks for no credentials."""

    name: str
    base: str
    _pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    def env(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.base}

    def new_bucket(self) -> str:
        name = new_bucket_name()
        self._ask("POST", "/storage/v1/b?project=p", json.dumps({"name": name}).encode(), "application/json")
        return name

    def put(self, bucket: str, name: str, data: bytes) -> str:
        """Store it; the source that names it."""
        self._ask("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}", data)
        return f"gs://{bucket}/{name}"

    def get(self, bucket: str, name: str) -> bytes:
        return self._ask("GET", f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media")

    def names(self, bucket: str) -> list[str]:
        found: list[dict[str, Any]] = json.loads(self._ask("GET", f"/storage/v1/b/{bucket}/o")).get("items", [])
        return sorted(str(one["name"]) for one in found)

    def _ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream") -> bytes:
        answer = self._pool.request(method, self.base + path, body=body, headers={"Content-Type": kind})
        assert answer.status == 200, (self.name, method, path, answer.status, answer.data[:500])
        return answer.data


@contextmanager
def gcp_storage_emulator(place: Path) -> Iterator[Gcs]:
    port = str(free_port())
    argv = (str(_tools() / "bin" / "gcp-storage-emulator"), "start", "--port", port, "--in-memory")
    with _running(place, argv, f"http://127.0.0.1:{port}"):
        yield Gcs("gcp-storage-emulator", f"http://127.0.0.1:{port}")


@contextmanager
def fake_gcs_server(place: Path) -> Iterator[Gcs]:
    port = str(free_port())
    base = f"http://127.0.0.1:{port}"
    # The wheel wraps the Go program; its own start-up waits longer than it has to.
    found = sorted(_tools().rglob("vendor/fake-gcs-server/bin/fake-gcs-server*"))
    if not found:
        pytest.skip("the wheel of fake-gcs-server has no program for this machine")
    options = ("-scheme", "http", "-backend", "memory", "-port", port, "-host", "127.0.0.1")
    urls = ("-public-host", f"127.0.0.1:{port}", "-external-url", base)
    with _running(place, (str(found[0]), *options, *urls), base):
        yield Gcs("fake-gcs-server", base)


@dataclass(frozen=True)
class S3Server:
    """A running S3 that other people made."""

    base: str
    identifier: str = "real-identifier"
    secret: str = "real-secret-of-the-test"

    def env(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": self.identifier, "AWS_SECRET_ACCESS_KEY": self.secret}
        return {"AWS_ENDPOINT_URL_S3": self.base, "AWS_REGION": "us-east-1", **keys}

    def new_bucket(self) -> str:
        name = new_bucket_name()
        self.curl("PUT", f"/{name}")
        return name

    def put(self, bucket: str, key: str, data: bytes) -> str:
        self.curl("PUT", f"/{bucket}/{quote(key)}", data)
        return f"s3://{bucket}/{key}"

    def curl(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One request by curl's own signature, which is not ours; again until a server that is starting takes it."""
        program = shutil.which("curl") or pytest.skip("curl is not on PATH")
        argv = [program, "-s", "-S", "-f", "--aws-sigv4", "aws:amz:us-east-1:s3", "-X", method]
        argv += ["--user", f"{self.identifier}:{self.secret}", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            done = subprocess.run([*argv, "--data-binary", "@-", self.base + path], input=body, capture_output=True)
            if done.returncode == 0:
                return done.stdout
            assert time.monotonic() < deadline, done
            time.sleep(0.3)


@contextmanager
def seaweedfs(place: Path) -> Iterator[S3Server]:
    program = shutil.which("weed") or pytest.skip("weed (SeaweedFS) is not on PATH")
    ports = [free_port() % 40_000 + 10_000 for _ in range(4)]  # it also takes the port 10000 above each
    server = S3Server(f"http://127.0.0.1:{ports[0]}")
    keys = [{"accessKey": server.identifier, "secretKey": server.secret}]
    identity = {"name": "t", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}
    (place / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (place / "data").mkdir()
    options = ["server", "-s3", f"-s3.port={ports[0]}", "-s3.config=s3.json", "-dir=data", "-ip=127.0.0.1"]
    options += [f"-master.port={ports[1]}", f"-volume.port={ports[2]}", f"-filer.port={ports[3]}"]
    with _running(place, (program, *options), server.base):
        yield server


# -- programs ---------------------------------------------------------------------------------------


@functools.cache
def _tools() -> Path:
    """The environment with the emulators; made when it is not there. Skips the test where it cannot be made."""
    lock = ROOT / "requirements" / "emulators.txt"
    place = ROOT / ".venv.emulators"
    stamp = place / "comfygov.stamp"
    with lock.open("rb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # several processes of one test run
        wanted = lock.read_text().splitlines()[0]
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            run_uv("the emulators", _INSTALL_SECONDS, "venv", "--quiet", "--python", sys.executable, str(place))
            run_uv(
                "the emulators",
                _INSTALL_SECONDS,
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--python",
                str(place / "bin" / "python"),
                "-r",
                str(lock),
            )
            stamp.write_text(wanted)
    return place


@contextmanager
def _running(place: Path, argv: tuple[str, ...], base: str) -> Iterator[None]:
    log = place / "emulator.log"
    with log.open("wb") as output:
        child = subprocess.Popen(argv, cwd=place, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            _wait(child, base, log)
            yield
        finally:
            child.kill()
            child.wait()


def _wait(child: subprocess.Popen[bytes], base: str, log: Path) -> None:
    """Until it answers anything at all."""
    deadline = time.monotonic() + _READY_SECONDS
    with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
        while True:
            lives = child.poll() is None and time.monotonic() < deadline
            assert lives, log.read_text(errors="replace")
            try:
                pool.request("GET", base + "/")
            except urllib3.exceptions.HTTPError:
                time.sleep(0.05)
            else:
                return
