"""RunPod's own SDK, unchanged, takes jobs from a local control plane and gives them to our worker."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.extras import extras_python
from tests.kit.handlers import Stage, living, picture, sleep
from tests.kit.runpod import ControlPlane, control_plane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.handlers import Serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(tmp_path_factory.mktemp("runpod"), python=extras_python())
    return made.prepare()


@pytest.fixture(scope="module")
def plane(stage: Stage) -> Iterator[ControlPlane]:
    with control_plane() as running:
        stage.env = running.env()
        yield running


@pytest.fixture(scope="module")
def worker(stage: Stage, plane: ControlPlane) -> Iterator[Serving]:
    with stage.serving("--timeout", "60", "--inline-limit", "0.1", http=False) as running:
        yield running
        comfyui = running.comfyui
        running.child.send_signal(signal.SIGTERM)
        assert running.child.wait(30) == 0, running.said
        assert not comfyui.is_running()
    assert not living(stage.comfyui)


def await_progress(plane: ControlPlane, job_id: str) -> None:
    until = time.monotonic() + 30
    while not plane.progress(job_id):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_job_is_done(worker: Serving, plane: ControlPlane) -> None:
    body = plane.result(plane.put("one", workflow=picture(1)))
    (image,) = body["output"]["images"]
    assert (image["filename"], image["type"], image["node_id"]) == ("out_00001_.png", "base64", "2")
    assert "error" not in body
    assert "stopPod" not in body
    assert not [value for value in worker.comfyui.environ().values() if "key-of-the-control-plane" in value]


def test_a_failure_says_why(worker: Serving, plane: ControlPlane) -> None:
    body = plane.result(plane.put("bad", workflow={"1": {"class_type": "Nowhere", "inputs": {}}}))
    assert body["error"].startswith("this ComfyUI has no node class Nowhere")
    assert body["output"]["code"] == "missing_node"
    body = plane.result(plane.put("worse", workflow=3, images="no"))
    assert body["output"]["code"] == "bad_job"


def test_progress_comes_before_the_result_and_never_after(worker: Serving, plane: ControlPlane) -> None:
    assert plane.result(plane.put("slow", workflow=sleep(2.5)))["output"]["artifacts"]
    said = plane.progress("slow")
    assert said
    assert said[0]["node_id"] == "1"
    time.sleep(0.5)
    assert "status" not in plane.posted["slow"][-1], "the result is the last word"


def test_a_stop_signal_ends_the_job_and_not_the_worker(worker: Serving, plane: ControlPlane) -> None:
    plane.put("stopped", workflow=sleep(60))
    await_progress(plane, "stopped")
    plane.stops.put("stopped")
    assert plane.result(plane.put("next", workflow=picture(2)), 20)["output"]["images"]
    assert "is started anew" not in worker.said


def test_a_result_over_the_limit_is_an_error_and_not_lost_on_the_way(worker: Serving, plane: ControlPlane) -> None:
    body = plane.result(plane.put("large", workflow=picture(3, width=6000, height=4000)))
    assert body["output"]["code"] == "too_large", body
    assert "100,000 can be returned" in body["error"]


def test_refresh_worker_stops_the_pod(worker: Serving, plane: ControlPlane) -> None:
    body = plane.result(plane.put("fresh", workflow=picture(4), refresh_worker=True))
    assert body["stopPod"] is True
    assert body["output"]["images"]


def test_a_comfyui_that_dies_fails_the_job_and_comes_back(worker: Serving, plane: ControlPlane) -> None:
    plane.put("killed", workflow=sleep(60))
    await_progress(plane, "killed")
    worker.comfyui.kill()
    body = plane.result("killed", 20)
    assert body["output"]["code"] == "comfyui_died"
    assert plane.result(plane.put("after", workflow=picture(5)))["output"]["images"]


def test_a_batch_in_a_worker_of_its_own(stage: Stage) -> None:
    with control_plane() as own:
        stage.env = own.env()
        for number in range(4):
            own.put(f"b{number}", workflow=picture(number))
        with stage.serving("--concurrency", "4", http=False) as running:
            for number in range(4):
                assert own.result(f"b{number}")["output"]["images"]
            assert max(own.batches) > 1
            own.put("last", workflow=sleep(1.5))
            await_progress(own, "last")
            running.child.send_signal(signal.SIGTERM)
            assert own.result("last", 20)["output"]["artifacts"], "what runs is finished"
            assert running.child.wait(30) == 0


def test_a_stream_gives_progress_and_then_the_result(stage: Stage) -> None:
    with control_plane() as own:
        stage.env = own.env()
        own.put("s", workflow=picture(1) | {"8": sleep(2.5)["1"]})
        own.put("wrong", workflow={})
        with stage.serving("--stream", http=False):
            parts = own.result("s")["output"]
            assert own.result("wrong")["error"].startswith("the workflow has no nodes")
        assert [part["output"] for part in own.streamed["s"]] == parts
        assert "progress" in parts[0]
        assert parts[-1]["images"]


def test_refresh_worker_of_the_settings(stage: Stage) -> None:
    with control_plane() as own:
        stage.env = {**own.env(), "REFRESH_WORKER": "true"}
        own.put("f", workflow=picture(1))
        with stage.serving(http=False):
            assert own.result("f")["stopPod"] is True


def test_without_runpod_it_says_what_to_do(stage: Stage) -> None:
    stage.env = {}
    stage.gov("handler", "serve", "--runtime", str(stage.runtime)).failed(2, "RUNPOD_WEBHOOK_GET_JOB", "--http")
    own = Stage(stage.root, env={"RUNPOD_WEBHOOK_GET_JOB": "http://127.0.0.1:9/job-take/e/$ID"})
    own.gov("handler", "serve", "--runtime", str(stage.runtime)).failed(1, "pip install 'comfygov[runpod]'")
