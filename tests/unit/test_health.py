"""What came up, from the words that ComfyUI's nodes.py and main.py print, and the API of a real socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from comfygov.errors import Code
from comfygov.ports import bounded_http
from comfygov.ports.comfy_api import ComfyApi, free_port, port_is_taken
from comfygov.trial import health

from .conftest import Refused

ROOT = "/tmp/h/ComfyUI/custom_nodes"
LOG = f"""Traceback (most recent call last):
  File "{ROOT}/broken/__init__.py", line 1, in <module>
ModuleNotFoundError: No module named 'x'

Cannot import {ROOT}/broken module for custom nodes: No module named 'x'
Skip {ROOT}/no nodes module for custom nodes due to the lack of NODE_CLASS_MAPPINGS or NODES_LIST (need one).
Skipping other due to disable_all_custom_nodes and whitelist_custom_nodes

Prestartup times for custom nodes:
   0.5 seconds: {ROOT}/good
   0.0 seconds (PRESTARTUP FAILED): {ROOT}/early

Import times for custom nodes:
   0.0 seconds: {ROOT}/websocket_image_save.py
   0.0 seconds (IMPORT FAILED): {ROOT}/broken
   0.0 seconds (IMPORT FAILED): {ROOT}/no nodes
   0.1 seconds: {ROOT}/early
  12.3 seconds: {ROOT}/good
   0.0 seconds (IMPORT FAILED): {ROOT}/silent

WARNING: some comfy_extras/ nodes did not import correctly. This may be because they are missing some dependencies.

IMPORT FAILED: nodes_audio.py
IMPORT FAILED: nodes_audio.py
Prompt executed in 0.02 seconds
"""
ANSWERS: dict[str, Any] = {
    "/system_stats": {
        "system": {"comfyui_version": "0.3.64", "python_version": "3.11.7 (main)", "pytorch_version": "2.11"}
    },
    "/object_info": {
        "KSampler": {"python_module": "nodes"},
        "SaveAudio": {"python_module": "comfy_extras.nodes_audio"},
        "Good B": {"python_module": "custom_nodes.good"},
        "Good A": {"python_module": "custom_nodes.good"},
        "Dotted": {"python_module": "custom_nodes.a.b"},
        "SaveImageWebsocket": {"python_module": "custom_nodes.websocket_image_save"},
    },
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = ANSWERS.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def api() -> Iterator[ComfyApi]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made = ComfyApi("127.0.0.1", server.server_port)
    yield made
    made._pool.clear()
    server.shutdown()
    thread.join()
    server.server_close()


def test_health_is_read_from_the_api_and_the_log(api: ComfyApi) -> None:
    found = health.read(api, LOG, 13.37521)
    assert (found.comfyui_version, found.python_version, found.pytorch_version) == ("0.3.64", "3.11.7", "2.11")
    assert found.boot_seconds == 13.375
    assert found.core_classes == ("KSampler", "SaveAudio")
    assert found.core_failures == ("nodes_audio.py",)
    good, broken, empty = found.pack("good"), found.pack("broken"), found.pack("no nodes")
    assert good is not None
    assert (good.loaded, good.classes, good.seconds, good.reason) == (True, ("Good A", "Good B"), 12.8, "")
    assert broken is not None
    assert (broken.loaded, broken.reason) == (False, "No module named 'x'")
    assert empty is not None
    assert not empty.loaded
    assert "NODE_CLASS_MAPPINGS" in empty.reason
    dotted = found.pack("a.b")
    assert dotted is not None
    assert dotted.classes == ("Dotted",)
    assert found.pack("other") is None


def test_a_pack_that_failed_without_a_word_has_a_reason_all_the_same(api: ComfyApi) -> None:
    for name in ("silent", "early"):
        pack = health.read(api, LOG, 1).pack(name)
        assert pack is not None
        assert not pack.loaded
        assert pack.reason


def test_a_pack_of_one_file_is_one_pack(api: ComfyApi) -> None:
    names = [pack.name for pack in health.read(api, LOG, 1).packs if pack.name.startswith("websocket")]
    assert names == ["websocket_image_save.py"]


@pytest.mark.parametrize(
    "line",
    [
        f"Error while calling comfy_entrypoint in {ROOT}/v3: boom",
        f"comfy_entrypoint in {ROOT}/v3 is not callable, skipping.",
        f"comfy_entrypoint in {ROOT}/v3 did not return a ComfyExtension, skipping.",
    ],
)
def test_a_v3_pack_that_fails_has_its_reason(line: str) -> None:
    assert "v3" in health.failures(line)


def test_a_log_without_packs_has_none() -> None:
    assert health.failures("") == {}
    assert health.failures("Cannot import nothing at all") == {}


def test_an_api_that_does_not_answer_is_said(api: ComfyApi, refused: Refused) -> None:
    assert api.alive()
    with refused(Code.TOOL_FAILED):
        api.get("/gone")
    silent = ComfyApi("127.0.0.1", free_port())
    assert not silent.alive()
    with refused(Code.TOOL_FAILED):
        silent.system_stats()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_is_taken_while_somebody_listens(host: str) -> None:
    port = free_port()
    assert not port_is_taken(host, port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert port_is_taken(host, port)
    assert not port_is_taken(host, port)


@pytest.mark.parametrize("said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"H"], ids=["continues", "dribbles"])
def test_an_answer_that_never_begins_ends(said: bytes, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    """A pack on trial may be who answers; a timeout of a socket begins again with every byte."""
    monkeypatch.setattr(bounded_http, "HEAD_SECONDS", 0.3)

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: " if said == b"H" else b"")
            while True:
                connection.sendall(said)
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with refused(Code.TOOL_FAILED) as error:
            ComfyApi("127.0.0.1", listener.getsockname()[1]).system_stats()
        thread.join(10)
    assert not thread.is_alive()
    assert "begins without end" in str(error.value)
