"""`gs://` and `s3://` on emulators that other people made, found on PATH: `gcp-storage-emulator` and
`fake-gcs-server` (JSON API of Google Cloud Storage), `weed` (SeaweedFS, an S3 that verifies signatures).

Each test is skipped when its program is not there; docs/07_test_strategy_and_acceptance.md says how to get them.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import urllib3

from comfygov.models import s3
from comfygov.ports.comfy_api import free_port
from tests.kit.governed import Governed, Ran

pytestmark = pytest.mark.slow
DATA = random.Random(3).randbytes(70_000_000)
NAME = "dir/ü m+1.bin"
_READY_SECONDS = 60.0
_KEYS = s3.Keys("real-identifier", "real-secret-of-the-test")


@contextmanager
def running(tmp_path: Path, *argv: str) -> Iterator[None]:
    with (tmp_path / "emulator.log").open("wb") as log:
        child = subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            child.kill()
            child.wait()


def program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not on PATH")
    return found


def until_done(method: str, url: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Send it again until the server that has just been started takes it."""
    pool = urllib3.PoolManager(retries=False)
    deadline = time.monotonic() + _READY_SECONDS
    said = ""
    while time.monotonic() < deadline:
        try:
            answer = pool.request(method, url, body=body, headers=headers or {})
        except urllib3.exceptions.HTTPError as error:
            said = str(error)
        else:
            if answer.status in (200, 409):
                return
            said = f"{answer.status} {answer.data[:500]!r}"
        time.sleep(0.2)
    raise AssertionError(said)


def verify(bare: Governed, source: str, **env: str) -> Ran:
    checksum = hashlib.sha256(DATA).hexdigest()
    entry = {"source": source, "target_path": "vae/m.bin", "checksum": checksum, "size": len(DATA)}
    (bare.root / "spec.json").write_text(json.dumps({"models": [entry]}))
    bare.env = env
    where = ("--spec", str(bare.root / "spec.json"), "--models-dir", str(bare.root / "models"))
    return bare.gov("models", "verify", *where)


def upload_to_gcs(base: str) -> None:
    until_done("POST", f"{base}/storage/v1/b?project=p", b'{"name": "bucket"}', {"Content-Type": "application/json"})
    until_done("POST", f"{base}/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(NAME, safe='')}", DATA)


@pytest.mark.parametrize("name", ["gcp-storage-emulator", "fake-gcs-server"])
def test_google_cloud_storage(bare: Governed, tmp_path: Path, name: str) -> None:
    port = str(free_port())
    base = f"http://127.0.0.1:{port}"
    arguments = {
        "gcp-storage-emulator": ("start", "--port", port, "--in-memory"),
        "fake-gcs-server": (
            "-scheme",
            "http",
            "-backend",
            "memory",
            "-port",
            port,
            "-public-host",
            f"127.0.0.1:{port}",
        ),
    }
    with running(tmp_path, program(name), *arguments[name]):
        upload_to_gcs(base)
        verify(bare, f"gs://bucket/{NAME}", STORAGE_EMULATOR_HOST=base).ok()
        verify(bare, "gs://bucket/none", STORAGE_EMULATOR_HOST=base).ok()  # it is in its place
        (tmp_path / "models" / "vae" / "m.bin").unlink()
        shutil.rmtree(tmp_path / "cache")
        verify(bare, "gs://bucket/none", STORAGE_EMULATOR_HOST=base).failed(3, "404")


def test_s3_that_verifies_signatures(bare: Governed, tmp_path: Path) -> None:
    ports = [_low(free_port()) for _ in range(4)]
    identity = {
        "name": "t",
        "credentials": [{"accessKey": _KEYS.identifier, "secretKey": _KEYS.secret}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (tmp_path / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (tmp_path / "data").mkdir()
    base = f"http://127.0.0.1:{ports[0]}"
    options = ["server", "-s3", f"-s3.port={ports[0]}", "-s3.config=s3.json", "-dir=data", "-ip=127.0.0.1"]
    options += [f"-master.port={ports[1]}", f"-volume.port={ports[2]}", f"-filer.port={ports[3]}"]
    with running(tmp_path, program("weed"), *options):
        upload_to_s3(base)
        env = {"AWS_ENDPOINT_URL_S3": base, "AWS_ACCESS_KEY_ID": _KEYS.identifier}
        source = f"s3://bucket/{NAME}"
        wrong = verify(bare, source, **env, AWS_SECRET_ACCESS_KEY="another-secret")
        wrong.failed(5, "403")
        verify(bare, source, **env, AWS_SECRET_ACCESS_KEY=_KEYS.secret).ok()


def _low(port: int) -> str:
    """SeaweedFS also takes the port 10000 above."""
    return str(port % 40_000 + 10_000)


def upload_to_s3(base: str) -> None:
    """By curl's own signature, which is not ours."""
    sign = [program("curl"), "-s", "-f", "--aws-sigv4", "aws:amz:us-east-1:s3"]
    sign += ["--user", f"{_KEYS.identifier}:{_KEYS.secret}", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    deadline = time.monotonic() + _READY_SECONDS
    for url, body in ((f"{base}/bucket", b""), (f"{base}/bucket/{quote(NAME)}", DATA)):
        done = None
        while done is None or done.returncode != 0:
            assert time.monotonic() < deadline, done
            time.sleep(0.3)
            done = subprocess.run([*sign, "-X", "PUT", "--data-binary", "@-", url], input=body, capture_output=True)
