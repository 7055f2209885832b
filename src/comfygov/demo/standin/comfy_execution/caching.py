# ruff: noqa: ANN401 - values of a workflow are of any type
"""Remembers results: a node with the same class, inputs and ancestors is not run again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import nodes
from comfy_execution.graph_utils import is_link
from comfy_execution.validation import input_specs

log = logging.getLogger("comfyui")


@dataclass
class Entry:
    """What a node gave: its outputs by slot, and what it shows."""

    outputs: list[Any]
    ui: dict[str, Any] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return tuple(_hashable(x) for x in value) if isinstance(value, (list, tuple)) else value


class ResultCache:
    """Results by signature; what the current prompt does not use is dropped."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.entries: dict[Any, Entry] = {}
        self.keys: dict[str, Any] = {}
        self.prompt: dict[str, Any] = {}

    def set_prompt(self, prompt: dict[str, Any]) -> None:
        """Compute the signatures of a new prompt and keep what they name."""
        self.prompt, self.keys = prompt, {}
        for node_id in prompt:
            self._key(node_id)
        wanted = set(self.keys.values()) if self.enabled else set()
        self.entries = {key: entry for key, entry in self.entries.items() if key in wanted}

    def _key(self, node_id: str) -> Any:
        if node_id not in self.keys:
            self.keys[node_id] = None
            self.keys[node_id] = self._signature(node_id)
        return self.keys[node_id]

    def _signature(self, node_id: str) -> Any:
        node = self.prompt[node_id]
        cls = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
        uses_id = any(spec.kind == "UNIQUE_ID" for spec in input_specs(cls).values())
        parts: list[Any] = [node["class_type"], self._changed(cls, node)]
        parts.append(node_id if uses_id or getattr(cls, "NOT_IDEMPOTENT", False) else None)
        for name, value in sorted(node["inputs"].items()):
            if is_link(value) and value[0] in self.prompt:
                parts.append((name, "link", self._key(value[0]), value[1]))
            else:
                parts.append((name, type(value).__name__, _hashable(value)))
        return tuple(parts)

    @staticmethod
    def _changed(class_def: Any, node: dict[str, Any]) -> Any:
        function = getattr(class_def, "IS_CHANGED", None)
        if function is None:
            return False
        known = input_specs(class_def)
        inputs = {k: None if is_link(v) else v for k, v in node["inputs"].items() if k in known}
        try:
            return _hashable(function(**inputs))
        except Exception as error:
            log.warning("WARNING: %s", error)
            return float("nan")

    def get(self, node_id: str) -> Entry | None:
        """The result of a node, if there is one."""
        return self.entries.get(self.keys.get(node_id))

    def set(self, node_id: str, entry: Entry) -> None:
        """Remember a result."""
        self.entries[self.keys[node_id]] = entry

    def clear(self) -> None:
        """Forget everything."""
        self.entries = {}
