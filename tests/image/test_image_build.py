"""An image from a lock, on the stand-in ComfyUI: built, started without a network, asked, stopped, verified.

The base is made of the system's own packages, the engines have a store of their own; the handler's packages are PyPI's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfygov.ports.comfy_api import free_port
from tests.kit import engines
from tests.kit.engines import BASE, UV, Engines
from tests.kit.governed import Governed
from tests.kit.repos import commit_all, make_pack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(engines.missing()), reason=engines.missing() or "there is an engine"),
]
IMAGE = "localhost/comfygov-test:one"
TOKEN = "planted-token-b1c9e6"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    try:
        made = engines.make(tmp_path_factory.mktemp("engines") / "store")
    except engines.CannotError as error:  # nothing of ours is at work yet
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def made(store: Engines, tmp_path_factory: pytest.TempPathFactory) -> Governed:
    """A home whose pack has a package; its version `one`."""
    made = Governed(tmp_path_factory.mktemp("home"), store.env)
    for name, version in (("basis", "1.0"), ("extra", "2.0"), ("torch", "2.9.0+cpu")):
        made.wheel(name, version)
    made.init(requirements="basis\ntorch\n").ok()
    made.promote_pack("alpha", "extra\n")
    made.gov("version", "create", "one").ok()
    return made


def inside(store: Engines, *argv: str) -> str:
    """What a program of the image prints."""
    words = (
        "podman",
        "run",
        "--rm",
        "--network",
        "none",
        "--no-healthcheck",
        "--entrypoint",
        argv[0],
        IMAGE,
        *argv[1:],
    )
    return store.ok(*words)


def build(made: Governed, *options: str) -> Any:
    words = ("--json", "image", "build", "--base", BASE, "--uv-image", UV, "--no-extras")
    return made.gov(*words, *options, timeout=600).ok().data


@pytest.fixture(scope="module")
def built(made: Governed, tmp_path_factory: pytest.TempPathFactory) -> Any:
    secret = tmp_path_factory.mktemp("secret") / "netrc"
    secret.write_text(f"machine nowhere.invalid login me password {TOKEN}\n")
    options = ("--version", "one", "--tag", IMAGE, "--engine", "buildah", "--secret", f"id=netrc,src={secret}")
    return build(made, *options, "--sbom", str(made.root / "sbom.json"))


def test_the_base_goes_into_the_record_by_its_digest(built: Any, store: Engines, made: Governed) -> None:
    assert built["base"].startswith("localhost/comfygov-test-base@sha256:")
    record = json.loads(inside(store, "cat", "/opt/comfy/image.json"))
    lock = json.loads((made.home / "lockfiles" / "comfy-one.lock.json").read_bytes())
    assert (record["base"], record["digest"]) == (built["base"], lock["digest"])
    assert record["torch"] == {"version": "2.9.0+cpu"}
    assert inside(store, "cat", "/opt/comfy/sbom.cdx.json") == (made.root / "sbom.json").read_text()


def test_it_is_what_its_lock_says_and_nothing_more(built: Any, made: Governed) -> None:
    for engine in ("podman", "buildah"):
        found = made.json("image", "verify", IMAGE, "--version", "one", "--engine", engine)
        assert found["identical"], found
        assert found["digest"] == built["digest"]


def layers_with_the_secret(store: Engines, image: str, folder: Path) -> list[str]:
    store.ok("podman", "save", "--format", "docker-dir", "--output", str(folder), image)
    layers = [path for path in folder.iterdir() if path.is_file()]
    assert len(layers) > 8
    unpacked = {path.name: subprocess.run(["gzip", "-cdf", path], capture_output=True, check=True) for path in layers}
    return [name for name, done in unpacked.items() if TOKEN.encode() in done.stdout]


def test_no_layer_holds_the_secret(built: Any, store: Engines, tmp_path: Path) -> None:
    """The second image has it, in a layer whose file the next one takes away: what looks for it does find it."""
    secret = tmp_path / "netrc"
    secret.write_text(TOKEN)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nUSER 0:0\nRUN --mount=type=secret,id=netrc cp /run/secrets/netrc /kept\nRUN rm /kept\n"
    )
    words = ("--format", "docker", "--layers", "--secret", f"id=netrc,src={secret}", "--tag", "localhost/kept:1")
    store.ok("buildah", "build", *words, str(tmp_path))
    assert layers_with_the_secret(store, IMAGE, tmp_path / "one") == []
    assert len(layers_with_the_secret(store, "localhost/kept:1", tmp_path / "two")) == 1


def test_the_second_build_takes_everything_from_the_first(built: Any, made: Governed) -> None:
    again = build(made, "--version", "one", "--tag", "localhost/comfygov-test:again", "--engine", "podman")
    assert again["id"] == built["id"]
    log = (made.root / "cache" / "images" / "build-one.log").read_text()
    steps = sum(line.startswith("[2/2] STEP ") for line in log.splitlines())
    assert log.count("--> Using cache ") >= steps - 1 > 20  # all but FROM: the same id alone could be built anew


def test_a_changed_image_is_found(built: Any, store: Engines, made: Governed, tmp_path: Path) -> None:
    changed = tmp_path / "Dockerfile"
    pack = "/opt/comfy/ComfyUI/custom_nodes/alpha"
    site = "/opt/comfy/env/lib/python3*/site-packages"
    changed.write_text(
        f"FROM {IMAGE}\nUSER 0:0\nRUN echo >> {pack}/__init__.py && touch {pack}/new.py && rm {site}/basis/__init__.py"
        f" && rm -r {site}/extra*\nENV PYTHONSTARTUP=/tmp/x.py\nLABEL org.opencontainers.image.base.name=other\n"
    )
    store.ok("buildah", "build", "--format", "docker", "--tag", "localhost/changed:1", str(tmp_path))
    ran = made.gov("image", "verify", "localhost/changed:1", "--version", "one", "--engine", "podman").failed(3)
    for words in (
        "it runs as the user `0:0`, not as 10001:0",
        "its variable PYTHONSTARTUP loads code that is not the lock's",
        "it stands on other, and its record names localhost/comfygov-test-base@sha256:",
        "alpha: __init__.py is not as its commit has it",
        "alpha: new.py belongs to no commit",
        "basis 1.0: basis/__init__.py is missing",
        "the package extra==2.0 is not installed",
    ):
        assert words in ran.stdout


WORKFLOW = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "picture"}},
}
ALONE = ("--network", "none", "--no-healthcheck", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/var/comfy")


def assert_one_picture(result: Any) -> None:
    data = base64.b64decode(result["images"][0]["data"])
    assert data.startswith(b"\x89PNG")
    assert hashlib.sha256(data).hexdigest() == result["images"][0]["sha256"]


def test_one_job_in_one_picture_out_without_network_and_read_only(built: Any, store: Engines, tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    job.write_text(json.dumps(WORKFLOW))
    result = json.loads(
        store.ok("podman", "run", "--rm", *ALONE, "-v", f"{job}:/job.json:ro", IMAGE, "job", "/job.json")
    )
    assert_one_picture(result)
    assert result["version"] == {"name": "one", "digest": built["digest"]}


def asked(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_serves_over_http_is_healthy_and_stops_cleanly(built: Any, store: Engines) -> None:
    port = free_port()
    words = (
        "--detach",
        "--name",
        "served",
        "--network",
        "host",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        "/var/comfy",
    )
    store.ok("podman", "run", *words, IMAGE, "http", "--http", f"127.0.0.1:{port}")
    until(lambda: asked(port, "/ready")[0] == 200)
    status, answer = asked(port, "/runsync", {"input": {"workflow": WORKFLOW}})
    assert (status, answer["status"]) == (200, "COMPLETED")
    assert_one_picture(answer["output"])
    store.ok("podman", "healthcheck", "run", "served")
    processes = store.ok("podman", "exec", "served", "sh", "-c", "cat /proc/1/cmdline /proc/[0-9]*/status")
    assert {line.split()[1] for line in processes.splitlines() if line.startswith("Uid:")} == {"10001"}
    store.ok("podman", "stop", "--time", "30", "served")
    assert store.ok("podman", "inspect", "--format", "{{.State.ExitCode}}", "served").strip() == "0"
    store.ok("podman", "rm", "served")


def test_comfyui_itself_is_a_page_and_an_orphan_is_collected(built: Any, store: Engines) -> None:
    store.ok("podman", "run", "--detach", "--name", "page", "--network", "none", IMAGE, "page")
    until(lambda: store.run("podman", "healthcheck", "run", "page").returncode == 0)
    store.ok("podman", "exec", "page", "sh", "-c", "(sleep 0.1 &) ; exit 0")
    states = ("podman", "exec", "page", "sh", "-c", "grep -h State /proc/[0-9]*/status")
    until(lambda: "zombie" not in store.ok(*states))
    store.ok("podman", "stop", "--time", "30", "page")
    assert store.ok("podman", "inspect", "--format", "{{.State.ExitCode}}", "page").strip() == "0"
    store.ok("podman", "rm", "page")


def test_a_pack_that_does_not_import_in_an_image_fails_the_build(made: Governed) -> None:
    """Beside its code a pack may write, as in a trial; what an image is not is an error before anybody runs it."""
    writes = "from pathlib import Path\nPath(__file__).with_name('state.json').write_text('{}')\n"
    refuses = "assert not Path('/opt/comfy').exists(), 'not in an image'\n"
    for name, start in (("writer", writes), ("refuser", writes + refuses)):
        pack = make_pack(made.root / "packs" / name)
        (pack / "__init__.py").write_text(start + (pack / "__init__.py").read_text())
        commit_all(pack)
        made.gov("node", "add", str(pack)).ok()
        made.gov("tx", "promote", made.json("tx", "run", name)["transaction"]["txid"]).ok()
        (made.home / "ComfyUI" / "custom_nodes" / name / "state.json").unlink(missing_ok=True)
        made.gov("version", "create", name).ok()
    build(made, "--version", "writer", "--engine", "buildah", "--tag", "localhost/comfygov-test:writer")
    words = ("image", "build", "--version", "refuser", "--base", BASE, "--uv-image", UV, "--no-extras")
    made.gov(*words, "--engine", "buildah", timeout=300).failed(1, "refuser", "not in an image")


def test_what_is_no_image_of_ours_is_said_to_be_none(built: Any, made: Governed) -> None:
    made.gov("image", "verify", BASE, "--version", "one", "--engine", "podman").failed(2, "no image that comfygov has")
    made.gov("image", "verify", "localhost/no:1", "--version", "one", "--engine", "podman").failed(2, "has no image")


def test_a_base_with_another_python_fails_with_a_sentence(made: Governed, store: Engines, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN rm /usr/bin/python3*\n")
    store.ok("buildah", "build", "--tag", "localhost/no-python:1", str(tmp_path))
    words = ("image", "build", "--version", "one", "--base", "localhost/no-python:1", "--uv-image", UV, "--no-extras")
    made.gov(*words, "--engine", "buildah", timeout=300).failed(1, "error: the base image has no python3")
