"""Results in buckets: Google's library on two emulators, obstore on an S3 that checks signatures, and on Azurite."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from comfygov.ports.comfy_api import free_port
from tests.kit.extras import extras_python
from tests.kit.handlers import Stage, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.emulators import Gcs, S3Server
    from tests.kit.s3_standin import S3StandIn

pytestmark = pytest.mark.slow


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, python=extras_python()).prepare()


def image_of(result: Any, data: bytes, kind: str) -> Any:
    (image,) = result["images"]
    assert (image["type"], image["size"]) == (kind, len(data))
    assert image["sha256"] == hashlib.sha256(data).hexdigest()
    assert data.startswith(b"\x89PNG")
    return image


@pytest.mark.parametrize("name", ["gcp_storage_emulator", "fake_gcs_server"])
def test_google_cloud_storage(stage: Stage, name: str, request: pytest.FixtureRequest) -> None:
    emulator: Gcs = request.getfixturevalue(name)
    bucket = emulator.new_bucket()
    stage.env = {**emulator.env(), "GCS_BUCKET": bucket}
    result = stage.handle(picture(), "--prefix", "run/1", "--object-name", "{date}/{node_id}-{filename}")
    (key,) = emulator.names(bucket)
    assert key == f"run/1/{time.strftime('%Y-%m-%d', time.gmtime())}/2-out_00001_.png"
    image = image_of(result, emulator.get(bucket, key), "gcs_url")
    assert image["data"] == image["uri"] == f"gs://{bucket}/{key}"
    assert "images" in stage.handle(picture(), "--output", "base64"), "a bucket in the environment is a default"


def test_a_bucket_that_is_not_there_fails_the_job(stage: Stage, fake_gcs_server: Gcs) -> None:
    stage.env = {**fake_gcs_server.env(), "GCS_BUCKET": "nobody-has-this"}
    job = ("handler", "run", "--runtime", str(stage.runtime), "--workflow", stage.workflow(picture()))
    stage.gov(*job).failed(5, "could not be stored (gcs", "check the bucket")
    stage.env = {"GCS_BUCKET": "x-y-z", "GOOGLE_APPLICATION_CREDENTIALS": str(stage.root / "none.json")}
    stage.gov(*job).failed(1, "no credentials for Google Cloud Storage")


def test_a_key_signs_addresses(stage: Stage, gcp_storage_emulator: Gcs) -> None:
    """With a service account's key file; the emulator does not judge the signature, so its parts are looked at."""
    bucket = gcp_storage_emulator.new_bucket()
    key_file = stage.root / "key.json"
    key_file.write_text(json.dumps(service_account()))
    stage.env = {**gcp_storage_emulator.env(), "GOOGLE_APPLICATION_CREDENTIALS": str(key_file)}
    result = stage.handle(picture(), "--output", "gcs", "--bucket", bucket, "--url-seconds", "600")
    (image,) = result["images"]
    assert "X-Goog-Expires=600" in image["data"]
    assert "X-Goog-Signature=" in image["data"]
    assert image["uri"].startswith(f"gs://{bucket}/")


def service_account() -> dict[str, str]:
    program = shutil.which("openssl") or pytest.skip("openssl is not on PATH")
    made = subprocess.run([program, "genrsa", "2048"], capture_output=True, text=True, check=True)
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": made.stdout,
        "client_email": "tests@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }


def test_s3_by_the_variables_of_runpods_worker(stage: Stage, s3: S3StandIn) -> None:
    s3.put("results", "there", b"")
    stage.env = {
        "BUCKET_ENDPOINT_URL": f"{s3.base}/results",
        "BUCKET_ACCESS_KEY_ID": s3.identifier,
        "BUCKET_SECRET_ACCESS_KEY": s3.secret,
    }
    result = stage.handle(picture())
    (key,) = (name for name in s3.buckets["results"] if name != "there")
    image = image_of(result, s3.buckets["results"][key].data, "s3_url")
    assert image["uri"] == f"s3://results/{key}"
    assert "X-Amz-Expires=604800" in image["data"], "a week, as that worker's"
    assert urllib3.request("GET", image["data"]).data == s3.buckets["results"][key].data
    assert urllib3.request("GET", image["data"].replace("=604800", "=604801")).status == 403
    assert key.endswith("/out_00001_.png"), "the name of the file is kept"


def test_s3_by_amazons_variables_and_a_wrong_secret(stage: Stage, s3: S3StandIn) -> None:
    s3.put("results", "there", b"")
    stage.env = {**s3.env(), "S3_BUCKET": "results"}
    assert stage.handle(picture())["images"][0]["type"] == "s3_url"
    stage.env = {**stage.env, "AWS_SECRET_ACCESS_KEY": "another"}
    job = ("handler", "run", "--runtime", str(stage.runtime), "--workflow", stage.workflow(picture()))
    ran = stage.gov(*job).failed(5, "could not be stored (s3")
    assert "another" not in ran.stderr


def test_seaweedfs(stage: Stage, seaweedfs: S3Server) -> None:
    bucket = seaweedfs.new_bucket()
    stage.env = {**seaweedfs.env(), "S3_BUCKET": bucket}
    result = stage.handle(picture(count=2, width=2000, height=2000))
    for image in result["images"]:
        data = urllib3.request("GET", image["data"]).data
        assert hashlib.sha256(data).hexdigest() == image["sha256"]


def test_results_too_large_for_the_answer_go_to_the_bucket(stage: Stage, gcp_storage_emulator: Gcs) -> None:
    bucket = gcp_storage_emulator.new_bucket()
    stage.env = {**gcp_storage_emulator.env(), "GCS_BUCKET": bucket}
    with stage.serving("--inline-limit", "0.002", "--output", "base64") as running:
        small, large = running.done(picture()), running.done(picture(width=3000, height=3000))
    assert [one["type"] for one in (*small["images"], *large["images"])] == ["base64", "gcs_url"]
    assert len(gcp_storage_emulator.names(bucket)) == 1


@pytest.fixture
def azurite(tmp_path: Path) -> Iterator[str]:
    """Microsoft's emulator (npm: azurite) where it is on PATH; its well-known account."""
    program = shutil.which("azurite-blob") or pytest.skip("azurite-blob is not on PATH")
    port = free_port()
    argv = [program, "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--blobPort", str(port)]
    child = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    account = "devstoreaccount1"
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    try:
        yield f"AccountName={account};AccountKey={key};BlobEndpoint=http://127.0.0.1:{port}/{account};"
    finally:
        child.kill()
        child.wait()


def test_azure(stage: Stage, azurite: str) -> None:
    parts = dict(part.split("=", 1) for part in azurite.strip(";").split(";"))
    create_container(parts, "results")
    stage.env = {"AZURE_STORAGE_CONNECTION_STRING": azurite, "AZURE_CONTAINER": "results"}
    (image,) = stage.handle(picture())["images"]
    assert image["type"] == "azure_url"
    data = urllib3.request("GET", image["data"]).data
    assert hashlib.sha256(data).hexdigest() == image["sha256"]


def create_container(parts: dict[str, str], name: str) -> None:
    """By a request signed by hand (Shared Key): obstore makes no containers."""
    import hmac

    account, base = parts["AccountName"], parts["BlobEndpoint"]
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    canonical = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{account}/{account}/{name}\nrestype:container"
    text = "PUT\n\n\n\n\n\n\n\n\n\n\n\n" + canonical
    digest = hmac.new(base64.b64decode(parts["AccountKey"]), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    until = time.monotonic() + 30
    while True:
        try:
            answer = urllib3.request("PUT", f"{base}/{name}?restype=container", headers=headers, retries=False)
        except urllib3.exceptions.HTTPError:
            assert time.monotonic() < until
            time.sleep(0.2)
        else:
            assert answer.status == 201, answer.data
            return
