# ruff: noqa: ANN401 - values of a workflow are of any type
"""Runs prompts: node after node, with a cache, messages and interruption."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any

import nodes
from comfy.model_management import InterruptProcessingException
from comfy_execution.caching import Entry, ResultCache
from comfy_execution.calling import call, gather, sort_out
from comfy_execution.graph_utils import ExecutionBlocker, is_link
from comfy_execution.queue import PromptQueue
from comfy_execution.validation import full_type_name, validate_prompt

__all__ = ["ExecutionBlocker", "PromptExecutor", "PromptQueue", "validate_prompt"]
log = logging.getLogger("comfyui")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, bool, str)) else str(value)


class PromptExecutor:
    """Runs one prompt at a time and keeps results for the next."""

    def __init__(self, server: Any, *, use_cache: bool) -> None:
        self.server = server
        self.cache = ResultCache(enabled=use_cache)
        self.objects: dict[tuple[str, str], Any] = {}
        self.status_messages: list[tuple[str, dict[str, Any]]] = []
        self.history_result: dict[str, Any] = {}
        self.success = True
        self.prompt_id = ""
        self.executed: list[str] = []
        self.progress: dict[str, dict[str, Any]] = {}

    def reset(self) -> None:
        """Forget results and node objects."""
        self.cache.clear()
        self.objects.clear()

    def send(self, event: str, data: dict[str, Any]) -> None:
        """Tell the client of this prompt, if it has one."""
        if self.server.client_id is not None:
            self.server.send_sync(event, data, self.server.client_id)

    def add_message(self, event: str, data: dict[str, Any], *, broadcast: bool = False) -> None:
        """Keep a message for the history and tell the client."""
        data = {**data, "timestamp": int(time.time() * 1000)}
        self.status_messages.append((event, data))
        if self.server.client_id is not None or broadcast:
            self.server.send_sync(event, data, self.server.client_id)

    def execute(self, prompt: dict[str, Any], prompt_id: str, extra_data: dict[str, Any], outputs: list[str]) -> None:
        """Run the outputs of a prompt and all they need."""
        nodes.interrupt_processing(False)  # noqa: FBT003
        self.server.client_id = extra_data.get("client_id")
        self.status_messages, self.executed, self.progress = [], [], {}
        self.prompt_id, self.success = prompt_id, True
        self.add_message("execution_start", {"prompt_id": prompt_id})
        self.cache.set_prompt(prompt)
        cached = [node_id for node_id in prompt if self.cache.get(node_id) is not None]
        self.add_message("execution_cached", {"nodes": cached, "prompt_id": prompt_id})
        if self._run(outputs, extra_data):
            self.add_message("execution_success", {"prompt_id": prompt_id})
        self._keep_result()

    def _keep_result(self) -> None:
        found = {node_id: self.cache.get(node_id) for node_id in self.cache.prompt}
        shown = {node_id: entry for node_id, entry in found.items() if entry is not None and entry.ui}
        outputs = {node_id: entry.ui for node_id, entry in shown.items()}
        self.history_result = {"outputs": outputs, "meta": {k: entry.meta for k, entry in shown.items()}}
        self.server.last_node_id = None

    def _needs(self, node_id: str) -> list[str]:
        return [x[0] for x in self.cache.prompt[node_id]["inputs"].values() if is_link(x)]

    def _plan(self, outputs: list[str]) -> list[str]:
        """Everything to run or to show, dependencies first."""
        order: list[str] = []
        seen: set[str] = set()
        stack = [(node_id, False) for node_id in reversed(outputs)]
        while stack:
            node_id, ready = stack.pop()
            if ready:
                order.append(node_id)
            elif node_id not in seen:
                seen.add(node_id)
                stack.append((node_id, True))
                missing = [x for x in self._needs(node_id) if self.cache.get(x) is None]
                stack += [(x, False) for x in reversed(missing) if self.cache.get(node_id) is None]
        return order

    def _run(self, outputs: list[str], extra_data: dict[str, Any]) -> bool:
        for node_id in self._plan(outputs):
            entry = self.cache.get(node_id)
            if entry is None:
                self.success = self._node(node_id, extra_data)
            else:
                self._executed(node_id, entry.ui)
            if not self.success:
                return False
        return True

    def _executed(self, node_id: str, ui: dict[str, Any] | None) -> None:
        data = {"node": node_id, "display_node": node_id, "output": ui, "prompt_id": self.prompt_id}
        self.send("executed", data)

    def _object(self, node_id: str, cls: Any) -> Any:
        key = (node_id, self.cache.prompt[node_id]["class_type"])
        if key not in self.objects:
            self.objects[key] = cls()
        return self.objects[key]

    def _node(self, node_id: str, extra_data: dict[str, Any]) -> bool:
        class_type = self.cache.prompt[node_id]["class_type"]
        lists: dict[str, list[Any]] = {}
        try:
            cls = nodes.NODE_CLASS_MAPPINGS[class_type]
            self._starting(node_id)
            lists = gather(cls, node_id, self.cache, extra_data)
            obj = self._object(node_id, cls)
            returned = call(obj, lists, lambda block: self._blocked(node_id, class_type, block))
            self._store(node_id, *sort_out(returned, obj))
        except InterruptProcessingException:
            self._interrupted(node_id, class_type)
            return False
        except Exception as error:
            self._failed(node_id, class_type, error, lists)
            return False
        return True

    def _starting(self, node_id: str) -> None:
        self.report(node_id, 0, 1, "running")
        self.server.last_node_id = node_id
        self.send("executing", {"node": node_id, "display_node": node_id, "prompt_id": self.prompt_id})

    def _store(self, node_id: str, outputs: list[Any], ui: dict[str, Any] | None) -> None:
        meta = {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}
        if ui:
            self._executed(node_id, ui)
        self.cache.set(node_id, Entry(outputs, ui, meta))
        last = self.progress.get(node_id, {"max": 1})["max"]
        self.report(node_id, last, last, "finished")
        self.executed.append(node_id)

    def report(self, node_id: str, value: float, maximum: float, state: str = "running") -> None:
        """Keep and send how far a node is."""
        ids = dict.fromkeys(("node_id", "display_node_id", "real_node_id"), node_id)
        entry = {"value": value, "max": maximum, "state": state, "prompt_id": self.prompt_id}
        self.progress[node_id] = {**entry, **ids, "parent_node_id": None}
        data = {"prompt_id": self.prompt_id, "nodes": dict(self.progress)}
        self.server.send_sync("progress_state", data, self.server.client_id)

    def _about(self, node_id: str, class_type: str) -> dict[str, Any]:
        executed = list(self.executed)
        return {
            "prompt_id": self.prompt_id,
            "node_id": node_id,
            "node_type": class_type,
            "executed": executed,
        }

    def _blocked(self, node_id: str, class_type: str, block: ExecutionBlocker) -> ExecutionBlocker:
        if block.message is None:
            return block
        empty: dict[str, Any] = {"traceback": [], "current_inputs": [], "current_outputs": []}
        text = {
            "exception_message": f"Execution Blocked: {block.message}",
            "exception_type": "ExecutionBlocked",
        }
        message = {**self._about(node_id, class_type), **text, **empty}
        self.server.send_sync("execution_error", message, self.server.client_id)
        return ExecutionBlocker(None)

    def _interrupted(self, node_id: str, class_type: str) -> None:
        log.info("Processing interrupted")
        self.add_message("execution_interrupted", self._about(node_id, class_type), broadcast=True)

    def _failed(self, node_id: str, class_type: str, error: Exception, lists: dict[str, list[Any]]) -> None:
        log.error("!!! Exception during processing !!! %s", error)
        log.error(traceback.format_exc())
        more = {
            "exception_message": f"{error}\n",
            "exception_type": full_type_name(type(error)),
            "traceback": traceback.format_tb(sys.exc_info()[2]),
            "current_inputs": {name: [_plain(x) for x in values] for name, values in lists.items()},
            "current_outputs": [x for x in self.cache.prompt if self.cache.get(x) is not None],
        }
        self.add_message("execution_error", {**self._about(node_id, class_type), **more})
