"""`gov handler run`: one job, from start to end."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.kit.handlers import Stage, inverted, living, picture, sleep
from tests.standin.conftest import decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.governed import Governed


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path).prepare()


def test_every_artifact_comes_with_its_node_and_sum_and_nothing_is_left(stage: Stage) -> None:
    before = sorted(stage.comfyui.rglob("*"))
    graph = picture(count=2) | {"9": {"class_type": "PreviewAny", "inputs": {"source": "ü text"}}}
    result = stage.handle(graph, "--work-dir", str(stage.root / "work"))
    assert [(one["filename"], one["node_id"], one["media_type"]) for one in result["images"]] == [
        ("out_00001_.png", "2", "image/png"),
        ("out_00002_.png", "2", "image/png"),
    ]
    for one in result["images"]:
        data = base64.b64decode(one["data"])
        assert (one["type"], one["size"], one["sha256"]) == ("base64", len(data), hashlib.sha256(data).hexdigest())
        assert data.startswith(b"\x89PNG")
    (text,) = result["artifacts"]
    assert (text["type"], text["data"], text["node_id"]) == ("text", "ü text", "9")
    assert result["version"] == {"name": "staged", "digest": "sha256:" + "0" * 64}
    assert result["timing"]["total"] >= result["timing"]["execution"] > 0
    assert not list((stage.root / "work" / "output").iterdir())
    assert [path for path in sorted(stage.comfyui.rglob("*")) if "__pycache__" not in path.parts] == [
        path for path in before if "__pycache__" not in path.parts
    ]
    assert not living(stage.comfyui)


def test_an_input_file_and_a_result_file(stage: Stage) -> None:
    result = stage.handle(picture(0x102030))
    (stage.root / "p.png").write_bytes(base64.b64decode(result["images"][0]["data"]))
    where = ("--output", "file", "--out-dir", str(stage.root / "out"), "--object-name", "{node_id}/{stem}{ext}")
    graph = stage.workflow(inverted("photo.png"))
    options = ("--workflow", graph, "--input", f"photo.png={stage.root / 'p.png'}", *where)
    ran = stage.gov(
        "handler", "run", "--runtime", str(stage.runtime), *options, "--out-file", str(stage.root / "result.json")
    ).ok()
    assert ran.stdout.startswith(f"{stage.root / 'result.json'}: 1 image, 0 other artifacts")
    (image,) = json.loads((stage.root / "result.json").read_bytes())["images"]
    assert image["data"] == str(stage.root / "out" / "3" / "out_00001_.png")
    made = decode((stage.root / "out" / "3" / "out_00001_.png").read_bytes())
    assert made.rows == [bytes((0xEF, 0xDF, 0xCF)) * 64] * 32


def test_a_job_that_fails_says_node_class_and_input(stage: Stage) -> None:
    def failed(graph: object, exit_code: int, *words: str, options: tuple[str, ...] = ()) -> None:
        workflow = stage.workflow(graph)
        ran = stage.gov("handler", "run", "--runtime", str(stage.runtime), "--workflow", workflow, *options)
        ran.failed(exit_code, *words)
        assert not ran.stdout

    job = ("--json", "handler", "run", "--runtime", str(stage.runtime), "--workflow", stage.workflow({"1": {}}))
    assert stage.gov(*job).envelope["error"]["code"] == "job_failed"
    failed({"1": {"class_type": "StandinFail", "inputs": {"message": "oh no"}}}, 1, "node 1 (StandinFail)", "oh no")
    failed(picture(width=-1), 1, "node 1 (EmptyImage), input `width`")
    failed({"1": {"class_type": "Nowhere", "inputs": {}}}, 1, "no node class Nowhere", "node 1 (Nowhere)")
    failed({"nodes": [], "links": []}, 1, "editor's format", "Export (API)")
    failed(inverted("cat.png"), 1, "node 1 (LoadImage), input `image`", "send it with the job")
    loader = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd.safetensors"}}}
    shown = {"2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}
    failed(loader | shown, 1, "`sd.safetensors` is not there", str(stage.root / "models/checkpoints/sd.safetensors"))
    failed(sleep(60), 1, "did not end in 0.5 s", options=("--timeout", "0.5"))
    assert not living(stage.comfyui)


def test_what_cannot_start_says_why_at_once(stage: Stage) -> None:
    job = ("--workflow", stage.workflow(picture()))
    stage.gov("handler", "run", "--runtime", str(stage.root / "none.json"), *job).failed(2, "no runtime file")
    stage.gov("handler", "run", *job).failed(2, "which version?", "--runtime FILE")
    (stage.comfyui / "nodes.py").write_text("import not_there_at_all\n")
    ran = stage.gov("handler", "run", "--runtime", str(stage.runtime), *job)
    ran.failed(1, "`not_there_at_all`, which is not there")
    stage.prepare(comfyui="/nowhere")
    stage.gov("handler", "run", "--runtime", str(stage.runtime), *job).failed(2, "/nowhere/main.py")


def test_a_pack_of_the_version_that_does_not_load_stops_the_start(stage: Stage) -> None:
    stage.prepare(packs={"broken": "raise ImportError('no such thing')\n"})
    graph = stage.workflow(picture())
    ran = stage.gov("handler", "run", "--runtime", str(stage.runtime), "--workflow", graph)
    ran.failed(1, "1 of 1 packs of version staged did not load", "broken: no such thing")


def test_a_version_is_made_once_and_does_jobs(governed: Governed) -> None:
    """By its name, then by its lock on a machine that has no home."""
    governed.promote_pack("mark-pack")
    governed.gov("version", "create", "v1").ok()
    graph = governed.root / "workflow.json"
    graph.write_text(json.dumps(picture() | {"5": {"class_type": "PreviewAny", "inputs": {"source": ["6", 0]}}}
                                | {"6": {"class_type": "mark_pack", "inputs": {}}}))  # fmt: skip
    job = ("--workflow", str(graph), "--cpu")
    ran = governed.gov("handler", "run", "--version", "v1", *job).ok()
    assert "is made in" in ran.stderr
    result = json.loads(ran.stdout)
    assert [one["data"] for one in result["artifacts"]] == ["mark_pack"], "a node of the pack ran"
    lock = governed.root / "elsewhere.lock.json"
    (governed.home / "lockfiles" / "comfy-v1.lock.json").rename(lock)
    again = governed.gov("handler", "run", "--lock", str(lock), *job, "--json").ok()
    assert "is made in" not in again.stderr
    assert again.data["result"]["version"] == result["version"]
    checked = governed.gov("handler", "check", "--lock", str(lock), "--cpu", "--json").ok().data
    assert [pack["name"] for pack in checked["packs"] if pack["loaded"]] == ["websocket_image_save.py", "mark-pack"]
    lock.write_text(lock.read_text().replace("mark-pack", "other-pack"))
    governed.gov("handler", "run", "--lock", str(lock), *job).failed(2, "it was edited or damaged")


def test_inputs_and_the_workflow_come_from_addresses_that_are_allowed(stage: Stage) -> None:
    picture_bytes = base64.b64decode(stage.handle(picture(0x102030))["images"][0]["data"])
    (stage.root / "site").mkdir()
    (stage.root / "site" / "photo.png").write_bytes(picture_bytes)
    (stage.root / "site" / "w.json").write_text(json.dumps(inverted("photo.png")))
    with files_served(stage.root / "site") as base:
        job = ("handler", "run", "--runtime", str(stage.runtime), "--input", f"{base}/photo.png?signature=secret")
        graph = stage.workflow(inverted("photo.png"))
        ran = stage.gov(*job, "--workflow", graph)
        ran.failed(1, "which is no public address", "--allow-private-urls")
        assert "signature" not in ran.stderr
        ran = stage.gov(*job, "--workflow", graph, "--allow-private-urls").ok()
        made = decode(base64.b64decode(json.loads(ran.stdout)["images"][0]["data"]))
        assert made.rows[0][:3] == bytes((0xEF, 0xDF, 0xCF))
        with stage.serving("--allow-private-urls") as running:
            where = {"workflow_url": f"{base}/w.json", "input_images": {"photo.png": f"{base}/photo.png"}}
            _, answer = running.ask("POST", "/runsync", {"input": where})
            assert answer["status"] == "COMPLETED", answer
            _, answer = running.ask("POST", "/runsync", {"input": {"workflow_url": f"{base}/photo.png"}})
            assert answer["output"]["code"] == "bad_workflow", answer
            _, answer = running.ask("POST", "/runsync", {"input": {**where, "input_images": {"a": f"{base}/none"}}})
            assert "answered with status 404" in answer["error"]


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
