"""Files, information routes, guards and the websocket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Server, Start

Message = dict[str, Any]
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 4, "height": 4, "batch_size": 1, "color": 1}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "ws"}},
}


def last_of(prompt_id: str) -> Any:
    """The final event of a prompt."""
    return lambda m: m["type"] == "executing" and m["data"]["node"] is None and m["data"]["prompt_id"] == prompt_id


def test_object_info(shared: Server) -> None:
    info = shared.get("/api/object_info")
    assert info["PreviewAny"]["python_module"] == "comfy_extras.nodes_preview_any"
    assert info["SaveImageWebsocket"]["python_module"] == "custom_nodes.websocket_image_save"
    save = info["SaveImage"]
    assert (save["python_module"], save["output_node"], save["output"]) == ("nodes", True, [])
    assert save["input_order"]["required"] == ["images", "filename_prefix"]
    assert (info["LoadImage"]["category"], info["LoadImage"]["output_is_list"]) == ("image", [False, False])
    assert shared.get("/object_info/Nobody") == {}


def test_small_routes(shared: Server) -> None:
    assert shared.get("/features")["max_upload_size"] == 100 * 1024 * 1024
    assert {"checkpoints", "loras", "custom_nodes"} <= set(shared.get("/models"))
    assert shared.get("/embeddings") == []
    assert shared.request("GET", "/no/such/route")[0] == 404
    assert shared.request("POST", "/system_stats")[0] == 405
    assert shared.request("HEAD", "/system_stats") == (200, b"")


def test_pages_of_other_sites_are_refused(shared: Server) -> None:
    assert shared.request("GET", "/queue", headers={"Origin": "http://evil.example"})[0] == 403
    assert shared.request("GET", "/queue", headers={"Origin": f"http://127.0.0.1:{shared.port}"})[0] == 200


def test_cors_and_upload_limit(start: Start) -> None:
    server = start("--enable-cors-header", "--max-upload-size", "0.001")
    assert server.request("GET", "/queue", headers={"Origin": "http://other.example"})[0] == 200
    assert server.upload(bytes(5000), "big.png")[0] == 413


@pytest.mark.parametrize("channels", [3, 4])
def test_upload_load_and_view(shared: Server, channels: int) -> None:
    pixels = bytes(range(2 * 3 * channels))
    blob = shared.encode(2, 3, pixels, [0, 1, 2], channels)
    name = f"in{channels}.png"
    assert shared.upload(blob, name) == (
        200,
        json.dumps({"name": name, "subfolder": "", "type": "input"}).encode(),
    )
    assert shared.request("GET", f"/view?filename={name}&type=input") == (200, blob)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": f"load{channels}"},
        },
    }
    rgb = bytes(pixels[p * channels + c] for p in range(6) for c in range(3))
    assert b"".join(shared.images(shared.run(graph), "2")[0].rows) == rgb
    shared.upload(shared.encode(1, 1, bytes(channels), [0], channels), name, overwrite="true")
    assert shared.images(shared.run(graph), "2")[0].width == 1


def test_upload_names_change_unless_the_same_bytes(shared: Server) -> None:
    names = [json.loads(shared.upload(b, "same.png", subfolder="s")[1])["name"] for b in (b"1", b"1", b"2", b"2")]
    assert names == ["same.png", "same.png", "same (1).png", "same (1).png"]
    assert shared.request("GET", "/view?filename=same%20(1).png&subfolder=s&type=input") == (200, b"2")
    assert shared.upload(b"x", "../../x.png")[0] == 400
    assert shared.request("POST", "/upload/image", b"")[0] == 400


def test_missing_input_is_refused(shared: Server) -> None:
    graph = {**GRAPH, "1": {"class_type": "LoadImage", "inputs": {"image": "gone.png"}}}
    status, answer = shared.queue(graph)
    error = answer["node_errors"]["1"]["errors"][0]
    assert (status, error["type"]) == (400, "custom_validation_failed")
    assert error["details"] == "image - Invalid image file: gone.png"


def test_view_guards(shared: Server) -> None:
    assert shared.request("GET", "/view")[0] == 404
    assert shared.request("GET", "/view?filename=nothing.png")[0] == 404
    assert shared.request("GET", "/view?filename=../main.py")[0] == 400
    assert shared.request("GET", "/view?filename=/etc/passwd")[0] == 400
    assert shared.request("GET", "/view?filename=main.py&subfolder=..")[0] == 403
    assert shared.request("GET", "/view?filename=x&type=secret")[0] == 400


def test_websocket_events(shared: Server) -> None:
    client = shared.socket("me")
    assert client.answer[0].startswith(b"HTTP/1.1 101")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in client.answer
    first = client.until(lambda m: m["type"] == "status")[0]
    assert first["data"] == {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"}
    answer = shared.queue(GRAPH, client_id="me")[1]
    seen = client.until(last_of(answer["prompt_id"]))
    order = [m["type"] for m in seen if m["type"] not in {"status", "progress_state"}]
    running = ["executing", "executing", "executed"]
    assert order == ["execution_start", "execution_cached", *running, "execution_success", "executing"]
    executed = next(m for m in seen if m["type"] == "executed")["data"]
    assert (executed["node"], executed["output"]["images"][0]["type"]) == ("2", "output")
    assert shared.get(f"/history/{answer['prompt_id']}")
    again = client_run(shared, client, GRAPH)
    assert [m["type"] for m in again if m["type"] == "executing"] == ["executing"]
    assert next(m for m in again if m["type"] == "executed")["data"]["output"] == executed["output"]
    client.close()


def client_run(server: Server, client: Any, graph: dict[str, Any]) -> list[Message]:
    """Queue for this client and read to the end."""
    found: list[Message] = client.until(last_of(server.queue(graph, client_id="me")[1]["prompt_id"]))
    return found


def test_websocket_progress_error_and_interruption(shared: Server) -> None:
    client = shared.socket("me")
    seen = client_run(shared, client, {"1": {"class_type": "StandinSleep", "inputs": {"seconds": 0.05}}})
    steps = [m["data"] for m in seen if m["type"] == "progress"]
    assert [(s["value"], s["max"], s["node"]) for s in steps] == [(n + 1, 10, "1") for n in range(10)]
    seen = client_run(shared, client, {"1": {"class_type": "StandinFail", "inputs": {"message": "x"}}})
    assert "execution_error" in [m["type"] for m in seen]
    slow = {"1": {"class_type": "StandinSleep", "inputs": {"seconds": 60}}}
    answer = shared.queue(slow, client_id="me")[1]
    client.until(lambda m: m["type"] == "executing")
    shared.post("/interrupt", {"prompt_id": answer["prompt_id"]})
    assert "execution_interrupted" in [m["type"] for m in client.until(last_of(answer["prompt_id"]))]
    client.close()


def test_websocket_ping_features_and_close(shared: Server) -> None:
    client = shared.socket("polite")
    client.until(lambda m: m["type"] == "status")
    client.send(9, b"hello")
    assert client.frame() == (10, b"hello")
    client.send(1, json.dumps({"type": "feature_flags", "data": {}}).encode())
    assert client.until(lambda m: m["type"] == "feature_flags")[-1]["data"]["supports_preview_metadata"] is True
    client.send(8, b"\x03\xe8")
    assert client.frame() == (8, b"\x03\xe8")
    assert client.stream.read() == b""
    client.close()
