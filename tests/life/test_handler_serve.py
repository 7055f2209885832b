"""`gov handler serve --http`: jobs from any scheduler."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.handlers import Serving, Stage, inverted, living, picture, sleep
from tests.standin.conftest import decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("handler")).prepare()


@pytest.fixture(scope="module")
def shared(stage: Stage) -> Iterator[Serving]:
    """One worker for the tests that leave it as it was."""
    work = stage.root / "work"
    with stage.serving("--work-dir", str(work), "--concurrency", "8", "--timeout", "30", "--max-body", "2") as running:
        yield running
        assert [path for name in ("input", "output") for path in (work / name).iterdir()] == []


def color_of(image: Any) -> tuple[int, int, int]:
    red, green, blue = decode(base64.b64decode(image["data"])).rows[0][:3]
    return red, green, blue


def test_200_jobs_by_8_clients_are_all_done_and_none_is_mixed_up(shared: Serving) -> None:
    source = shared.done(picture(0x0A0B0C))["images"][0]["data"]

    def one(number: int) -> tuple[int, Any]:
        if number % 4:
            return number, shared.done(picture(number, width=8 + number % 7, height=4))
        other = shared.done(picture(number * 257))["images"][0]["data"]
        return number, shared.done(inverted("same.png"), images=[{"name": "same.png", "image": other}])

    with ThreadPoolExecutor(8) as clients:
        for number, output in clients.map(one, range(200)):
            (image,) = output["images"]
            wanted = number if number % 4 else 0xFFFFFF - number * 257
            assert color_of(image) == (wanted >> 16, wanted >> 8 & 0xFF, wanted & 0xFF), number
            assert image["filename"] == "out_00001_.png"
    assert decode(base64.b64decode(source)).width == 64


def test_an_identical_job_gets_a_file_of_its_own_each_time(shared: Serving) -> None:
    """ComfyUI's cache would name a file that is gone."""
    graph = picture(1) | {"7": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    first, second = shared.done(graph, previews=True), shared.done(graph, previews=True)
    for output in (first, second):
        assert sorted((one["node_id"], one.get("preview", False)) for one in output["images"]) == [
            ("2", False),
            ("7", True),
        ]
        assert all(color_of(one) == (0, 0, 1) for one in output["images"])
    only_preview = {key: node for key, node in graph.items() if key != "2"}
    assert [one["node_id"] for one in shared.done(only_preview)["images"]] == ["7"]
    assert [one["node_id"] for one in shared.done(graph)["images"]] == ["2"]


def test_a_job_lives_as_runpods_do(shared: Serving) -> None:
    job_id = shared.submit(sleep(1.0))
    running = shared.until(job_id, "IN_PROGRESS")
    assert "output" not in running or running["output"]["node_id"] == "1"
    done = shared.until(job_id, "COMPLETED")
    assert done["executionTime"] >= 1000
    assert done["delayTime"] >= 0
    assert done["output"]["artifacts"][0]["data"] == 1.0, "what the node shows"
    assert shared.ask("GET", "/status/nobody") == (
        404,
        {"error": "there is no job `nobody`, or its result is not kept any more"},
    )
    status, answer = shared.ask("POST", "/runsync?wait=50", {"input": {"workflow": sleep(0.4)}})
    assert (status, answer["status"]) == (200, "IN_PROGRESS")
    assert shared.until(answer["id"], "COMPLETED")
    body = {"id": "mine", "input": {"workflow": picture(7)}}
    (_, first), (_, again) = shared.ask("POST", "/runsync", body), shared.ask("POST", "/runsync", body)
    assert first == again, "who asks twice gets the job that is there"


def test_progress_is_told(shared: Serving) -> None:
    job_id = shared.submit(sleep(1.5))
    until = time.monotonic() + 10
    while not (progress := shared.ask("GET", f"/status/{job_id}")[1].get("output")):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert progress["node_id"] == "1"
    assert progress["nodes"] == 1
    shared.until(job_id, "COMPLETED")


def test_a_deadline_interrupts_and_a_cancel_too(shared: Serving) -> None:
    late = shared.job(sleep(600), timeout=0.5)
    assert (late["status"], late["output"]["code"]) == ("TIMED_OUT", "timeout")
    assert "did not end in 0.5 s: the workflow was running in ComfyUI" in late["error"]
    running, waiting = shared.submit(sleep(600)), shared.submit(sleep(600))
    shared.until(running, "IN_PROGRESS")
    for job_id in (waiting, running):
        assert shared.ask("POST", f"/cancel/{job_id}")[0] == 200
        assert shared.until(job_id, "CANCELLED")["output"]["code"] == "cancelled"
    assert shared.done(picture(3))
    assert "is started anew" not in shared.said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "the job has no `input`"),
        ({"input": 3}, "`input` is a number"),
        ({"input": "{"}, "`input` is a string that is no JSON"),
        ({"input": {}}, "the job has no `workflow`"),
        ({"input": {"workflow": {}}}, "the workflow has no nodes"),
        ({"input": {"workflow": {"1": 2}}}, "node 1: it is no object"),
        ({"input": {"workflow": {"1": {"class_type": 3}}}}, "node 1: it has no `class_type`"),
        ({"input": {"workflow": {"nodes": [], "links": []}}}, "Workflow > Export (API)"),
        ({"input": {"workflow": picture(), "images": [1]}}, "`images[0]` is a number"),
        ({"input": {"workflow": picture(), "images": [{"name": "a"}]}}, "`images[0]` (`a`) has no content"),
        ({"input": {"workflow": picture(), "images": [{"name": "a", "image": "§"}]}}, "content of `a` is no base64"),
        ({"input": {"workflow": picture(), "timeout": "soon"}}, "`timeout` must be seconds"),
        ({"input": {"workflow": picture(), "output_mode": "ftp"}}, "`output_mode` is `ftp`"),
        ({"input": {"workflow": picture(), "input_images": {"a": "http://127.0.0.1/x"}}}, "no public address"),
        ({"input": {"workflow": picture(), "input_images": {"a": "http://localhost/x"}}}, "no public address"),
        ({"input": {"workflow": picture(), "input_images": {"a": "http://[::1]:80/"}}}, "no public address"),
        ({"input": {"workflow": picture(), "input_images": {"a": "http://169.254.169.254/"}}}, "no public address"),
        ({"input": {"workflow_url": "file:///etc/passwd"}}, "no http or https address"),
        ({"input": {"workflow": {"1": {"class_type": "SaveImage", "inputs": {}}}}}, "input `images`"),
    ],
)
def test_a_wrong_job_is_told_what_is_wrong_with_it(shared: Serving, body: object, words: str) -> None:
    status, answer = shared.ask("POST", "/runsync", body)
    assert (status, answer["status"]) == (200, "FAILED")
    assert words in answer["error"], answer
    assert set(answer["output"]) >= {"error", "code", "message"}


def test_a_wrong_request_is_told_so(shared: Serving) -> None:
    assert shared.ask("POST", "/run", b"{")[0] == 400
    assert shared.ask("POST", "/run", [1])[0] == 400
    assert shared.ask("POST", "/run", {"id": "../x", "input": {}})[0] == 400
    assert shared.ask("POST", "/run", b"[" * 100_000)[0] == 400
    assert shared.ask("GET", "/nowhere")[0] == 404
    assert shared.ask("POST", "/nowhere")[0] == 404
    status, answer = shared.ask("POST", "/run", b" " * 2_000_001)
    assert (status, answer["error"]) == (413, "the body has 2,000,001 bytes; at most 2,000,000 are taken")
    deep = json.dumps({"input": {"workflow": {"1": {"class_type": "PreviewAny", "inputs": {"source": 0}}}}})
    for depth in (200, 900, 5000):
        status, answer = shared.ask("POST", "/runsync", deep.replace("0}", "[" * depth + "]" * depth + "}").encode())
        assert status in (200, 400), answer
    assert shared.done(picture(4))


def test_200_mutilated_jobs_do_not_take_the_worker_down(shared: Serving) -> None:
    """Each is a good job in which something was changed at random."""
    dice = random.Random(int(os.environ.get("COMFYGOV_TEST_SEED", "7")))
    good = {"input": {"workflow": picture(1), "images": [{"name": "a", "image": "QQ=="}], "timeout": 5}}
    oddities: list[Any] = [
        None,
        True,
        -1,
        1e308,
        "",
        "\u0000",
        "../..",
        [],
        {},
        [[]],
        {"": {}},
        "http://127.0.0.1/",
        ["1", 0],
        "2",
    ]

    def mutilated(value: Any) -> Any:
        if dice.random() < 0.12:
            return dice.choice(oddities)
        if isinstance(value, dict):
            return {key if dice.random() > 0.05 else "odd": mutilated(inner) for key, inner in value.items()}
        return [mutilated(inner) for inner in value] if isinstance(value, list) else value

    seen = set()
    for _ in range(200):
        body = mutilated(good)
        status, answer = shared.ask("POST", "/runsync", body)
        assert status in (200, 400), (body, answer)
        seen.add(answer.get("status") if status == 200 else "refused")
        assert answer.get("output", {}).get("code") not in ("internal", "comfyui_died"), (body, answer)
    assert seen >= {"COMPLETED", "FAILED"}
    assert shared.done(picture(6))
    assert shared.ask("GET", "/ready")[1]["comfyui"]["restarts"] == 0


def test_health_and_metrics(shared: Serving, stage: Stage) -> None:
    status, said = shared.ask("GET", "/ready")
    assert (status, said["status"], said["version"]["name"]) == (200, "ready", "staged")
    assert shared.ask("GET", "/health")[0] == 200
    text = shared.pool.request("GET", shared.url + "/metrics").data.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["comfygov_handler_ready"]) == 1
    assert float(values['comfygov_handler_job_seconds_bucket{le="+Inf"}']) == float(
        values["comfygov_handler_job_seconds_count"]
    )
    stage.gov("handler", "health", "--ready").ok()
    stage.gov("handler", "health", "--ready", "--http", shared.url.removeprefix("http://")).ok()


def test_without_a_token_nobody_comes_in(stage: Stage) -> None:
    stage.env = {"COMFYGOV_TOKEN": "let-me-in-please"}
    with stage.serving() as running:
        stage.env = {}
        assert running.ask("GET", "/ready")[0] == 200
        assert running.ask("POST", "/run", {"input": {}})[0] == 401
        assert running.ask("GET", "/status/x", Authorization="Bearer wrong")[0] == 401
        body = {"input": {"workflow": picture()}}
        status, answer = running.ask("POST", "/runsync", body, Authorization="Bearer let-me-in-please")
        assert (status, answer["status"]) == (200, "COMPLETED")
        assert "let-me-in-please" not in " ".join(running.comfyui.environ().values())


def test_a_comfyui_that_is_killed_fails_its_job_and_comes_back(stage: Stage) -> None:
    with stage.serving("--concurrency", "2") as running:
        job_id = running.submit(sleep(30))
        running.until(job_id, "IN_PROGRESS")
        waiting = running.submit(picture(9))
        time.sleep(0.3)
        running.comfyui.send_signal(signal.SIGKILL)
        failed = running.until(job_id, "FAILED")
        assert failed["output"]["code"] == "comfyui_died"
        assert "was killed (out of memory?)" in failed["error"]
        assert "got prompt" in failed["error"], "the end of its log"
        assert running.until(waiting, "COMPLETED"), "the job that waited is done by the next one"
        assert running.ask("GET", "/ready")[1]["comfyui"]["restarts"] == 1


def test_a_node_that_cannot_be_interrupted_costs_the_process_and_not_the_worker(tmp_path: Path) -> None:
    stage = Stage(tmp_path).prepare({"stubborn": STUBBORN})
    with stage.serving("--interrupt-timeout", "1") as running:
        late = running.job({"1": {"class_type": "Stubborn", "inputs": {}}}, timeout=0.3)
        assert late["status"] == "TIMED_OUT"
        running.await_line("is started anew: a workflow did not stop")
        assert running.done(picture(5))


STUBBORN = """
import time

class Stubborn:
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        time.sleep(120)
        return {}


NODE_CLASS_MAPPINGS = {"Stubborn": Stubborn}
"""


def test_sigterm_finishes_what_runs_and_hands_back_what_waits(stage: Stage) -> None:
    with stage.serving("--grace", "20") as running:
        job_id, waiting = running.submit(sleep(1.5)), running.submit(sleep(1.5))
        running.until(job_id, "IN_PROGRESS")
        comfyui = running.comfyui
        running.child.send_signal(signal.SIGTERM)
        handed_back = running.until(waiting, "FAILED")
        assert (handed_back["output"]["code"], handed_back["output"]["retryable"]) == ("handed_back", True)
        assert running.ask("GET", "/ready")[0] == 503
        assert running.ask("POST", "/run", {"input": {}})[0] == 503
        assert running.until(job_id, "COMPLETED"), "it can still be read"
        assert running.child.wait(20) == 0
        assert not comfyui.is_running()
    assert not living(stage.comfyui)


def test_after_the_grace_a_job_is_handed_back(stage: Stage) -> None:
    with stage.serving("--grace", "0.5") as running:
        job_id = running.submit(sleep(600))
        running.until(job_id, "IN_PROGRESS")
        running.child.send_signal(signal.SIGTERM)
        assert running.child.wait(20) == 0
    assert not living(stage.comfyui)


def test_a_result_too_large_is_told_before_it_is_lost(stage: Stage) -> None:
    with stage.serving("--inline-limit", "0.001", "--work-dir", str(stage.root / "large")) as running:
        answer = running.job(picture(3, width=900, height=900))
        assert (answer["status"], answer["output"]["code"]) == ("FAILED", "too_large")
        assert "1,000 can be returned" in answer["error"]
        assert "GCS_BUCKET" in answer["error"]
        (kept,) = (stage.root / "large" / "kept").rglob("*.png")
        assert str(kept) in answer["error"]


def test_a_worker_that_cannot_start_ends_with_the_reason(tmp_path: Path) -> None:
    stage = Stage(tmp_path).prepare({"broken": "import nothing_of_that_name\n"})
    ran = stage.gov("handler", "serve", "--runtime", str(stage.runtime), "--http", "127.0.0.1:0")
    ran.failed(1, "packs of version staged did not load", "nothing_of_that_name")
    stage.gov("handler", "serve", "--runtime", str(stage.runtime), "--http", "nowhere").failed(2, "is no address")
    ran = stage.gov("handler", "check", "--runtime", str(stage.runtime))
    ran.failed(1, "broken: No module named 'nothing_of_that_name'")
    stage.gov("handler", "health").failed(1, "no handler runs here")


def test_names_of_objects_that_jobs_would_share_are_refused(stage: Stage) -> None:
    ran = stage.gov("handler", "serve", "--runtime", str(stage.runtime), "--http", ":0", "--object-name", "{filename}")
    ran.failed(2, "a job would overwrite results of others", "{job_id}/{filename}")


def test_a_warm_up_runs_before_the_first_job(stage: Stage) -> None:
    with stage.serving("--warm-up", stage.workflow(picture(1))) as running:
        running.await_line("Prompt executed")
    failing = stage.workflow({"1": {"class_type": "StandinFail", "inputs": {"message": "cold"}}})
    ran = stage.gov("handler", "serve", "--runtime", str(stage.runtime), "--http", "127.0.0.1:0", "--warm-up", failing)
    ran.failed(1, "warm-up workflow failed", "cold")
