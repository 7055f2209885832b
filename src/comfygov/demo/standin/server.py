# ruff: noqa: ANN401 - messages are of any type, and each of them may fail alone
"""The HTTP API and the websocket of the stand-in."""

from __future__ import annotations

import json
import logging
import traceback
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import execution
import folder_paths
import nodes
from app import files, system_info
from app.http import Handler, Request, Response, Routes, json_response
from app.websocket import Socket, accept_key
from comfy.cli_args import args

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

log = logging.getLogger("comfyui")
PAGE = b"<!doctype html><title>ComfyUI stand-in</title><p>This is a stand-in for ComfyUI, not ComfyUI.</p>\n"
NO_CACHE = {"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "0"}
NO_PROMPT = {
    "type": "no_prompt",
    "message": "No prompt provided",
    "details": "No prompt provided",
    "extra_info": {},
}


class PackRoutes:
    """Takes the routes that packs declare; the stand-in lists them but does not serve them."""

    def __init__(self) -> None:
        self.declared: list[tuple[str, str]] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def decorator(path: str, **_: Any) -> Callable[[Any], Any]:
            self.declared.append((method, path))
            return lambda function: function

        return decorator


class PromptServer:
    """State shared by all requests: the queue, the sockets, who runs."""

    instance: ClassVar[PromptServer]

    def __init__(self) -> None:
        PromptServer.instance = self
        self.prompt_queue = execution.PromptQueue(self)
        self.number = 0
        self.sockets: dict[str, Socket] = {}
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.last_prompt_id: str | None = None
        self.routes = PackRoutes()
        self.on_prompt_handlers: list[Callable[[Any], Any]] = []

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        """Send an event to one client, or to all."""
        if isinstance(event, str):
            receivers = list(self.sockets.values()) if sid is None else [self.sockets.get(sid)]
            for receiver in filter(None, receivers):
                receiver.send_json({"type": event, "data": data})

    def queue_info(self) -> dict[str, Any]:
        """How much is left to do."""
        return {"exec_info": {"queue_remaining": self.prompt_queue.get_tasks_remaining()}}

    def queue_updated(self) -> None:
        """Tell everybody."""
        self.send_sync("status", {"status": self.queue_info()})

    def add_on_prompt_handler(self, handler: Callable[[Any], Any]) -> None:
        """Let a pack see and change prompts before they are checked."""
        self.on_prompt_handlers.append(handler)

    def trigger_on_prompt(self, data: Any) -> Any:
        """Ask the packs that wanted it."""
        for handler in self.on_prompt_handlers:
            try:
                data = handler(data)
            except Exception:
                log.warning("[ERROR] An error occurred during the on_prompt_handler processing")
                log.warning(traceback.format_exc())
        return data

    def websocket(self, http: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        """Serve one websocket until it closes."""
        http.send_response(101)
        http.send_header("Upgrade", "websocket")
        http.send_header("Connection", "Upgrade")
        http.send_header("Sec-WebSocket-Accept", accept_key(http.headers.get("Sec-WebSocket-Key", "")))
        http.end_headers()
        sid = query.get("clientId") or uuid.uuid4().hex
        client = self.sockets[sid] = Socket(http.rfile, http.wfile)  # type: ignore[arg-type]
        client.send_json({"type": "status", "data": {"status": self.queue_info(), "sid": sid}})
        if self.client_id == sid and self.last_node_id is not None:
            client.send_json({"type": "executing", "data": {"node": self.last_node_id}})
        self._listen(client)
        if self.sockets.get(sid) is client:
            del self.sockets[sid]
        client.finish()

    @staticmethod
    def _listen(client: Socket) -> None:
        first = True
        while (text := client.receive()) is not None:
            try:
                if first and json.loads(text).get("type") == "feature_flags":
                    client.send_json({"type": "feature_flags", "data": system_info.features()})
                first = False
            except (ValueError, AttributeError):
                log.warning("Invalid JSON received from client: %s", text)

    def handler(self) -> type[Handler]:
        """The class that serves connections."""
        routes = Routes()
        for method, path, function in self._table():
            routes.add(method, path, function)
        extra = {"cors": args.enable_cors_header, "maximum": round(args.max_upload_size * 1024 * 1024)}
        return type("BoundHandler", (Handler,), {"routes": routes, "websocket": self.websocket, **extra})

    def _table(self) -> list[tuple[str, str, Callable[[Request], Response]]]:
        return [
            ("GET", "/", lambda _: Response(200, PAGE, "text/html", NO_CACHE)),
            ("GET", "/ws", lambda _: Response(400)),
            ("GET", "/system_stats", lambda _: json_response(system_info.system_stats())),
            ("GET", "/features", lambda _: json_response(system_info.features())),
            ("GET", "/embeddings", lambda _: json_response(embeddings())),
            ("GET", "/models", lambda _: json_response(list(folder_paths.folder_names_and_paths))),
            ("GET", "/models/{folder}", get_models),
            ("GET", "/extensions", lambda _: json_response(files.list_extensions())),
            ("GET", "/extensions/{name}/{rest:path}", files.extension_file),
            ("GET", "/object_info", lambda _: json_response(object_info())),
            ("GET", "/object_info/{name}", get_one_object_info),
            ("GET", "/prompt", lambda _: json_response(self.queue_info())),
            ("POST", "/prompt", self.post_prompt),
            ("GET", "/history", self.get_history),
            ("POST", "/history", self.post_history),
            ("GET", "/history/{prompt_id}", self.get_history),
            ("GET", "/queue", self.get_queue),
            ("POST", "/queue", self.post_queue),
            ("POST", "/interrupt", self.post_interrupt),
            ("POST", "/free", self.post_free),
            ("POST", "/upload/image", files.upload_image),
            ("GET", "/view", files.view),
        ]

    def _number(self, data: dict[str, Any]) -> float:
        if "number" in data:
            return float(data["number"])
        number = -self.number if data.get("front") else self.number
        self.number += 1
        return number

    def post_prompt(self, request: Request) -> Response:
        """Check a prompt and queue it."""
        log.info("got prompt")
        data = self.trigger_on_prompt(request.json())
        number = self._number(data)
        if "prompt" not in data:
            return json_response({"error": NO_PROMPT, "node_errors": {}}, 400)
        prompt, prompt_id = data["prompt"], str(data.get("prompt_id", uuid.uuid4()))
        valid, error, outputs, node_errors = execution.validate_prompt(prompt, data.get("partial_execution_targets"))
        if not valid:
            log.warning("invalid prompt: %s", error)
            return json_response({"error": error, "node_errors": node_errors}, 400)
        extra = data.get("extra_data", {})
        if "client_id" in data:
            extra["client_id"] = data["client_id"]
        self.prompt_queue.put((number, prompt_id, prompt, extra, outputs))
        return json_response({"prompt_id": prompt_id, "number": number, "node_errors": node_errors})

    def get_history(self, request: Request) -> Response:
        """What is done."""
        if request.match:
            return json_response(self.prompt_queue.get_history(prompt_id=request.match[0]))
        most = request.query.get("max_items")
        offset = int(request.query.get("offset", -1))
        return json_response(self.prompt_queue.get_history(None, None if most is None else int(most), offset))

    def post_history(self, request: Request) -> Response:
        """Forget some or all of it."""
        data = request.json()
        if data.get("clear"):
            self.prompt_queue.wipe_history()
        for prompt_id in data.get("delete", []):
            self.prompt_queue.delete_history_item(prompt_id)
        return Response()

    def get_queue(self, _: Request) -> Response:
        """What runs and what waits."""
        running, pending = self.prompt_queue.get_current_queue()
        return json_response({"queue_running": running, "queue_pending": pending})

    def post_queue(self, request: Request) -> Response:
        """Forget prompts that wait."""
        data = request.json()
        if data.get("clear"):
            self.prompt_queue.wipe_queue()
        for prompt_id in data.get("delete", []):
            self.prompt_queue.delete_queue_item(lambda item, wanted=prompt_id: bool(item[1] == wanted))
        return Response()

    def post_interrupt(self, request: Request) -> Response:
        """Stop what runs, or only if it is this prompt."""
        try:
            wanted = request.json().get("prompt_id")
        except json.JSONDecodeError:
            wanted = None
        if not wanted:
            log.info("Global interrupt (no prompt_id specified)")
            nodes.interrupt_processing()
        elif any(item[1] == wanted for item in self.prompt_queue.get_current_queue()[0]):
            log.info("Interrupting prompt %s", wanted)
            nodes.interrupt_processing()
        else:
            log.info("Prompt %s is not currently running, skipping interrupt", wanted)
        return Response()

    def post_free(self, request: Request) -> Response:
        """Ask the worker to drop what it keeps."""
        data = request.json()
        for flag in ("unload_models", "free_memory"):
            if data.get(flag):
                self.prompt_queue.set_flag(flag, data[flag])
        return Response()


def embeddings() -> list[str]:
    """The names of the embeddings."""
    return [str(Path(name).with_suffix("")) for name in folder_paths.get_filename_list("embeddings")]


def get_models(request: Request) -> Response:
    """The models of one kind."""
    if request.match[0] not in folder_paths.folder_names_and_paths:
        return Response(404)
    return json_response(folder_paths.get_filename_list(request.match[0]))


def object_info() -> dict[str, Any]:
    """All classes; one that cannot describe itself is logged and left out."""
    found = {}
    for name in list(nodes.NODE_CLASS_MAPPINGS):
        try:
            found[name] = system_info.node_info(name)
        except Exception:
            log.error("[ERROR] An error occurred while retrieving information for the '%s' node.", name)  # noqa: TRY400
            log.error(traceback.format_exc())  # noqa: TRY400
    return found


def get_one_object_info(request: Request) -> Response:
    """One class, or nothing."""
    name = request.match[0]
    return json_response({name: system_info.node_info(name)} if name in nodes.NODE_CLASS_MAPPINGS else {})
