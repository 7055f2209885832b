"""How far ComfyUI says that it is. All of it may be missing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.delivery.websocket import Listener

_ENDINGS = frozenset({"execution_success", "execution_error", "execution_interrupted"})
Report = dict[str, Any]


@dataclass
class Watched:
    """The prompt that is looked at: `report` is told of progress, `ended` is set when it may be over."""

    prompt_id: str
    nodes: int
    report: Callable[[Report], None]
    ended: threading.Event
    done: set[str] = field(default_factory=set)


class Events:
    """The events of one ComfyUI, for whoever watches a prompt."""

    def __init__(self, listener: Callable[[Callable[[Report], None]], Listener]) -> None:
        self._listener = listener(self._heard)
        self._started = False
        self._watched: Watched | None = None

    def start(self) -> None:
        self._started = True
        self._listener.start()

    def stop(self) -> None:
        if self._started:
            self._listener.stop()

    def watch(self, watched: Watched | None) -> None:
        self._watched = watched

    def wake(self) -> None:
        watched = self._watched
        if watched is not None:
            watched.ended.set()

    def _heard(self, event: Report) -> None:
        watched, data = self._watched, event.get("data")
        if watched is None or not isinstance(data, dict) or data.get("prompt_id") != watched.prompt_id:
            return
        kind = event.get("type")
        if kind in _ENDINGS or (kind == "executing" and data.get("node") is None):
            watched.ended.set()
        elif kind == "execution_cached" and isinstance(data.get("nodes"), list):
            watched.done.update(map(str, data["nodes"]))
        elif kind == "executing":
            self._say(watched, str(data["node"]), None, None)
        elif kind == "progress":
            self._say(watched, str(data.get("node")), data.get("value"), data.get("max"))

    @staticmethod
    def _say(watched: Watched, node: str, value: object, most: object) -> None:
        report: Report = {"node_id": node, "nodes_done": len(watched.done - {node}), "nodes": watched.nodes}
        if isinstance(value, (int, float)) and isinstance(most, (int, float)):
            report |= {"value": value, "max": most}
        watched.report(report)
        watched.done.add(node)
