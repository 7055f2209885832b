"""Running prompts: pixels, history, caching, interruption, errors, queue."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from comfygov.demo.repositories import workflow_path

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Server, Start

Graph = dict[str, Any]


def invert(prefix: str, color: int = 0x336699, **more: Any) -> Graph:
    """EmptyImage -> ImageInvert -> SaveImage."""
    graph: Graph = json.loads(workflow_path("invert").read_text())
    graph["1"]["inputs"].update(color=color, **more)
    graph["3"]["inputs"]["filename_prefix"] = prefix
    return graph


def sleep(seconds: float) -> Graph:
    """One slow node."""
    return {"1": {"class_type": "StandinSleep", "inputs": {"seconds": seconds}}}


def kinds(entry: dict[str, Any]) -> list[str]:
    """The messages of a history entry."""
    return [kind for kind, _ in entry["status"]["messages"]]


def until_running(server: Server, prompt_id: str) -> None:
    """Wait until a prompt is the running one."""
    while not any(item[1] == prompt_id for item in server.get("/queue")["queue_running"]):
        time.sleep(0.01)


def test_invert_gives_the_right_pixels(shared: Server) -> None:
    entry = shared.run(invert("pixels", width=5, height=3, batch_size=2), extra_data={"extra_pnginfo": {"workflow": 1}})
    assert entry["outputs"]["3"]["images"] == [
        {"filename": f"pixels_0000{n}_.png", "subfolder": "", "type": "output"} for n in (1, 2)
    ]
    for image in shared.images(entry, "3"):
        assert (image.width, image.height) == (5, 3)
        assert image.rows == [bytes((0xCC, 0x99, 0x66)) * 5] * 3
        assert json.loads(image.text["prompt"])["2"]["class_type"] == "ImageInvert"
        assert image.text["workflow"] == "1"
    assert entry["status"]["status_str"] == "success"
    assert entry["status"]["completed"] is True
    assert kinds(entry) == ["execution_start", "execution_cached", "execution_success"]
    assert entry["meta"]["3"] == {
        "node_id": "3",
        "display_node": "3",
        "parent_node": None,
        "real_node_id": "3",
    }


def test_client_chosen_id_and_subfolder(shared: Server) -> None:
    status, answer = shared.queue(invert("deep/er/x"), prompt_id="mine-1")
    assert (status, answer["prompt_id"], answer["node_errors"]) == (200, "mine-1", {})
    entry = shared.wait("mine-1")
    assert entry["prompt"][1] == "mine-1"
    assert entry["prompt"][4] == ["3"]
    assert entry["outputs"]["3"]["images"] == [{"filename": "x_00001_.png", "subfolder": "deep/er", "type": "output"}]
    assert shared.images(entry, "3")[0].width == 64


def test_saving_outside_the_output_folder_fails(shared: Server) -> None:
    entry = shared.run(invert("../outside"))
    assert entry["status"]["status_str"] == "error"
    assert "outside the output folder" in entry["status"]["messages"][-1][1]["exception_message"]


def test_preview_goes_to_temp_and_any_is_text(shared: Server) -> None:
    graph = invert("unused")
    graph["3"] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    graph["4"] = {"class_type": "PreviewAny", "inputs": {"source": "hello"}}
    entry = shared.run(graph)
    assert entry["outputs"]["3"]["images"][0]["type"] == "temp"
    assert shared.images(entry, "3")
    assert entry["outputs"]["4"]["text"] == ["hello"]


def test_scaling(shared: Server) -> None:
    graph = invert("scaled", width=4, height=2)
    scale = {"image": ["1", 0], "upscale_method": "lanczos", "scale_by": 2.5}
    graph["2"] = {"class_type": "ImageScaleBy", "inputs": scale}
    image = shared.images(shared.run(graph), "3")[0]
    assert (image.width, image.height) == (10, 5)
    assert image.rows[4] == bytes((0x33, 0x66, 0x99)) * 10


def test_the_caching_trap_and_its_cures(start: Start, tree: Path) -> None:
    server = start()
    first = server.run(invert("trap"))
    (tree / "output" / "trap_00001_.png").unlink()
    again = server.run(invert("trap"))
    assert again["outputs"] == first["outputs"]
    assert again["status"]["completed"] is True
    assert sorted(again["status"]["messages"][1][1]["nodes"]) == ["1", "2", "3"]
    assert server.request("GET", "/view?filename=trap_00001_.png")[0] == 404
    other = server.run(invert("other"))
    assert sorted(other["status"]["messages"][1][1]["nodes"]) == ["1", "2"]
    assert (tree / "output" / "other_00001_.png").is_file()
    assert server.post("/free", {"free_memory": True})[0] == 200
    time.sleep(0.2)
    assert server.run(invert("other"))["outputs"]["3"]["images"][0]["filename"] == "other_00002_.png"


def test_cache_none_runs_everything_again(start: Start) -> None:
    server = start("--cache-none", "--disable-metadata")
    names = [server.run(invert("again"))["outputs"]["3"]["images"][0]["filename"] for _ in range(2)]
    assert names == ["again_00001_.png", "again_00002_.png"]
    entry = server.run(invert("again"))
    assert entry["status"]["messages"][1][1]["nodes"] == []
    assert server.images(entry, "3")[0].text == {}


def test_a_failing_node(shared: Server) -> None:
    graph = invert("never")
    graph["2"] = {"class_type": "StandinFail", "inputs": {"message": "on purpose", "image": ["1", 0]}}
    entry = shared.run(graph)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    kind, message = entry["status"]["messages"][-1]
    assert kind == "execution_error"
    assert (message["node_id"], message["node_type"]) == ("2", "StandinFail")
    assert message["exception_type"] == "RuntimeError"
    assert message["exception_message"] == "on purpose\n"
    assert any("nodes_standin.py" in line for line in message["traceback"])
    assert message["current_inputs"]["message"] == ["on purpose"]
    assert "!!! Exception during processing !!! on purpose\n" in shared.text()


@pytest.mark.parametrize("targeted", [True, False])
def test_interrupt(shared: Server, targeted: bool) -> None:
    prompt_id = shared.queue(sleep(60 + targeted))[1]["prompt_id"]
    until_running(shared, prompt_id)
    assert shared.post("/interrupt", {"prompt_id": "somebody-else"})[0] == 200
    body = json.dumps({"prompt_id": prompt_id}).encode() if targeted else b""
    assert shared.request("POST", "/interrupt", body)[0] == 200
    entry = shared.wait(prompt_id)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    assert kinds(entry)[-1] == "execution_interrupted"
    assert "Prompt somebody-else is not currently running, skipping interrupt\n" in shared.text()


def test_queue_delete_and_clear(shared: Server) -> None:
    running = shared.queue(sleep(50))[1]["prompt_id"]
    until_running(shared, running)
    waiting = [shared.queue(invert(f"w{n}"))[1]["prompt_id"] for n in range(3)]
    assert shared.get("/prompt") == {"exec_info": {"queue_remaining": 4}}
    assert [item[1] for item in shared.get("/queue")["queue_pending"]] == waiting
    front = shared.queue(invert("front"), front=True)[1]
    assert front["number"] < 0
    assert shared.get("/queue")["queue_pending"][0][1] == front["prompt_id"]
    shared.post("/queue", {"delete": [running, waiting[1]]})
    assert waiting[1] not in [item[1] for item in shared.get("/queue")["queue_pending"]]
    assert shared.get("/queue")["queue_running"][0][1] == running
    shared.post("/queue", {"clear": True})
    assert shared.get("/queue")["queue_pending"] == []
    shared.post("/interrupt", {})
    shared.wait(running)
    assert shared.get(f"/history/{waiting[0]}") == {}


def test_history_limits_and_forgetting(start: Start) -> None:
    server = start()
    for n in range(4):
        server.run(invert(f"h{n}"), prompt_id=f"p{n}")
    assert list(server.get("/history")) == ["p0", "p1", "p2", "p3"]
    assert list(server.get("/history?max_items=2")) == ["p2", "p3"]
    assert list(server.get("/history?max_items=2&offset=1")) == ["p1", "p2"]
    server.post("/history", {"delete": ["p1", "nobody"]})
    assert list(server.get("/api/history")) == ["p0", "p2", "p3"]
    server.post("/history", {"clear": True})
    assert server.get("/history") == {}


def test_bad_prompts(shared: Server) -> None:
    status, body = shared.post("/prompt", {"client_id": "x"})
    assert (status, json.loads(body)["error"]["type"]) == (400, "no_prompt")
    status, answer = shared.queue({"7": {"inputs": {}}})
    assert (status, answer["error"]["type"], answer["error"]["details"]) == (
        400,
        "invalid_prompt",
        "Node ID '#7'",
    )
    status, answer = shared.queue({"7": {"class_type": "Nope", "inputs": {}}})
    assert answer["error"]["message"] == "Cannot execute because node Nope does not exist."
    assert answer["node_errors"] == {}
    status, answer = shared.queue({"1": invert("x")["1"]})
    assert (status, answer["error"]["type"]) == (400, "prompt_no_outputs")
    assert shared.post("/prompt", {"prompt": "not an object"})[0] == 500
    assert shared.request("POST", "/prompt", b"{")[0] == 500


@pytest.mark.parametrize(
    ("node", "name", "value", "kind"),
    [
        ("1", "width", 0, "value_smaller_than_min"),
        ("1", "width", 99999, "value_bigger_than_max"),
        ("1", "width", "wide", "invalid_input_type"),
        ("2", "image", ["1"], "bad_linked_input"),
        ("2", "image", None, "required_input_missing"),
    ],
)
def test_validation_errors(shared: Server, node: str, name: str, value: Any, kind: str) -> None:
    graph = invert("bad")
    graph[node]["inputs"][name] = value
    if value is None:
        del graph[node]["inputs"][name]
    status, answer = shared.queue(graph)
    assert status == 400
    assert answer["error"]["type"] == "prompt_outputs_failed_validation"
    assert list(answer["node_errors"]) == [node]
    assert answer["node_errors"][node]["dependent_outputs"] == ["3"]
    assert answer["node_errors"][node]["errors"][0]["type"] == kind
    assert answer["node_errors"][node]["errors"][0]["extra_info"]["input_name"] == name


def test_wrong_types_and_unknown_models(shared: Server) -> None:
    graph = invert("bad")
    graph["2"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "no.safetensors"}}
    error = shared.queue(graph)[1]["node_errors"]["3"]["errors"][0]
    assert error["type"] == "return_type_mismatch"
    assert error["details"] == "images, received_type(MODEL) mismatch input_type(IMAGE)"
    graph["3"] = {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}
    error = shared.queue(graph)[1]["node_errors"]["2"]["errors"][0]
    assert (error["type"], error["details"]) == ("value_not_in_list", "ckpt_name: 'no.safetensors' not in []")
    assert error["extra_info"]["received_value"] == "no.safetensors"


def test_partly_valid_outputs_run(shared: Server) -> None:
    graph = invert("partly")
    graph["9"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}
    status, answer = shared.queue(graph)
    assert status == 200
    assert answer["node_errors"]["9"]["errors"][0]["type"] == "required_input_missing"
    entry = shared.wait(answer["prompt_id"])
    assert entry["status"]["completed"] is True
    assert list(entry["outputs"]) == ["3"]


def test_partial_execution_targets(shared: Server) -> None:
    graph = invert("target")
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "target9"}}
    entry = shared.run(graph, partial_execution_targets=["9"])
    assert list(entry["outputs"]) == ["9"]


def test_a_cycle_is_refused(shared: Server) -> None:
    graph = invert("cycle")
    graph["1"] = {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}}
    status, answer = shared.queue(graph)
    assert status == 400
    assert answer["error"]["type"] == "prompt_outputs_failed_validation"
    assert answer["error"]["details"] == ""
    assert shared.get("/system_stats")
