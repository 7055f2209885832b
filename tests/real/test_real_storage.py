"""`gs://` and `s3://` on servers of other people (tests/kit/emulators.py), and on our S3 that checks signatures."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.emulators import Gcs, S3Server
    from tests.kit.governed import Governed, Ran
    from tests.kit.s3_standin import S3StandIn

DATA = random.Random(3).randbytes(70_000_000)  # three pieces
NAME = "dir/ü m+1.bin"


def verify(bare: Governed, source: str, env: dict[str, str]) -> Ran:
    checksum = hashlib.sha256(DATA).hexdigest()
    entry = {"source": source, "target_path": "vae/m.bin", "checksum": checksum, "size": len(DATA)}
    (bare.root / "spec.json").write_text(json.dumps({"models": [entry]}))
    bare.env = env
    where = ("--spec", str(bare.root / "spec.json"), "--models-dir", str(bare.root / "models"))
    return bare.gov("models", "verify", *where)


@pytest.mark.parametrize("name", ["gcp_storage_emulator", "fake_gcs_server"])
def test_google_cloud_storage(bare: Governed, name: str, request: pytest.FixtureRequest) -> None:
    emulator: Gcs = request.getfixturevalue(name)
    bucket = emulator.new_bucket()
    source = emulator.put(bucket, NAME, DATA)
    verify(bare, source, emulator.env()).ok()
    assert (bare.root / "models" / "vae" / "m.bin").read_bytes() == DATA
    shutil.rmtree(bare.root / "models")
    shutil.rmtree(bare.root / "cache")
    verify(bare, f"gs://{bucket}/none", emulator.env()).failed(3, "404")


def test_s3_that_checks_signatures(bare: Governed, s3: S3StandIn) -> None:
    source = s3.put("my.bucket", NAME, DATA)
    verify(bare, source, {**s3.env(), "AWS_SECRET_ACCESS_KEY": "another"}).failed(3, "403", "set AWS_ACCESS_KEY_ID")
    verify(bare, source, {**s3.env(), "AWS_ACCESS_KEY_ID": "another"}).failed(3, "403", "set AWS_ACCESS_KEY_ID")
    s3.region = "eu-west-3"  # the bucket says so, and is asked again
    verify(bare, source, {**s3.env(), "AWS_REGION": "us-east-1"}).ok()
    assert (bare.root / "models" / "vae" / "m.bin").read_bytes() == DATA


def curl(s3: S3StandIn, secret: str, path: str, *more: str) -> str:
    """One request by curl's own signature: the answer's body and status."""
    sign = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{s3.identifier}:{secret}"]
    unsigned = ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    argv = ["curl", "-s", "-w", "%{http_code}", *sign, *unsigned, *more, s3.base + path]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_stand_in_takes_the_signature_of_curl_and_no_other(s3: S3StandIn) -> None:
    assert curl(s3, s3.secret, "/b", "-X", "PUT") == "200"
    assert curl(s3, s3.secret, "/b/a%20%C3%BC.bin", "-X", "PUT", "--data-binary", "x") == "200"
    assert curl(s3, s3.secret, "/b/a%20%C3%BC.bin") == "x200"
    assert curl(s3, "wrong", "/b/a%20%C3%BC.bin").endswith("<Code>SignatureDoesNotMatch</Code></Error>403")
    assert s3.buckets["b"]["a ü.bin"].data == b"x"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_stand_in_puts_the_parts_of_an_upload_together(s3: S3StandIn) -> None:
    s3.put("b", "there", b"")
    upload = re.search("<UploadId>(.+)</UploadId>", curl(s3, s3.secret, "/b/m.bin?uploads=", "-X", "POST"))
    assert upload is not None
    for number, data in ((2, "second"), (1, "first ")):
        part = f"/b/m.bin?partNumber={number}&uploadId={upload[1]}"
        assert curl(s3, s3.secret, part, "-X", "PUT", "--data-binary", data) == "200"
    assert "m.bin" not in s3.buckets["b"]
    done = curl(s3, s3.secret, f"/b/m.bin?uploadId={upload[1]}", "-X", "POST", "--data-binary", "<x/>")
    assert done.endswith("200"), done
    assert s3.buckets["b"]["m.bin"].data == b"first second"
    assert curl(s3, s3.secret, f"/b/m.bin?uploadId={upload[1]}", "-X", "DELETE").endswith(
        "NoSuchUpload</Code></Error>404"
    )


@pytest.mark.slow
def test_seaweedfs(bare: Governed, seaweedfs: S3Server) -> None:
    source = seaweedfs.put(seaweedfs.new_bucket(), NAME, DATA)
    verify(bare, source, {**seaweedfs.env(), "AWS_SECRET_ACCESS_KEY": "another"}).failed(
        3, "403", "set AWS_ACCESS_KEY_ID"
    )
    verify(bare, source, seaweedfs.env()).ok()
