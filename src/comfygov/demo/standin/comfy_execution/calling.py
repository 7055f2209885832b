# ruff: noqa: ANN401 - values of a workflow are of any type
"""Gathers the inputs of a node, calls it once per list item, and sorts out what it returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import nodes
from comfy_execution.graph_utils import ExecutionBlocker, is_link
from comfy_execution.validation import input_specs

if TYPE_CHECKING:
    from comfy_execution.caching import ResultCache

Block = Callable[[ExecutionBlocker], ExecutionBlocker]
Lists = dict[str, list[Any]]


def _hidden(kind: Any, prompt: dict[str, Any], node_id: str, extra_data: dict[str, Any]) -> Any:
    values = {"PROMPT": prompt, "DYNPROMPT": prompt, "UNIQUE_ID": node_id}
    return values.get(kind, extra_data.get("extra_pnginfo") if kind == "EXTRA_PNGINFO" else None)


def gather(cls: Any, node_id: str, cache: ResultCache, extra_data: dict[str, Any]) -> Lists:
    """Every input as a list of values."""
    found: Lists = {}
    specs = input_specs(cls)
    for name, value in cache.prompt[node_id]["inputs"].items():
        if is_link(value):
            entry = cache.get(value[0])
            found[name] = [None] if entry is None else entry.outputs[value[1]]
        elif name in specs:
            found[name] = [value]
    for spec in specs.values():
        if spec.category == "hidden":
            found[spec.name] = [_hidden(spec.kind, cache.prompt, node_id, extra_data)]
    return found


def _finish(value: Any) -> Any:
    if not inspect.iscoroutine(value):
        return value
    import asyncio

    return asyncio.run(value)


def _once(function: Any, inputs: dict[str, Any], block: Block) -> Any:
    nodes.before_node_execution()
    for value in inputs.values():
        if isinstance(value, ExecutionBlocker):
            return block(value)
    return _finish(function(**inputs))


def call(obj: Any, lists: Lists, block: Block) -> list[Any]:
    """Call the node for each item of its inputs."""
    function = getattr(obj, obj.FUNCTION)
    if getattr(obj, "INPUT_IS_LIST", False):
        return [_once(function, lists, block)]
    longest = max((len(values) for values in lists.values()), default=0)
    if longest == 0:
        return [_once(function, {}, block)] if not lists else []
    pick = [{k: v[min(i, len(v) - 1)] for k, v in lists.items()} for i in range(longest)]
    return [_once(function, inputs, block) for inputs in pick]


def _split(value: Any, width: int) -> tuple[Any, Any]:
    """What a node returned, as (ui, outputs)."""
    ui, result = None, value
    if isinstance(value, dict):
        if "expand" in value:
            raise NotImplementedError("the stand-in does not expand subgraphs")
        ui, result = value.get("ui"), value.get("result")
    elif hasattr(value, "standin_node_output"):
        ui, result = value.ui, value.result
    return ui, (result,) * width if isinstance(result, ExecutionBlocker) else result


def _merge(results: list[Any], as_list: list[bool]) -> list[Any]:
    merged = []
    for slot in range(len(results[0])):
        values: list[Any] = []
        for result in results:
            spread = slot < len(as_list) and as_list[slot] and not isinstance(result[slot], ExecutionBlocker)
            values.extend(result[slot] if spread else [result[slot]])
        merged.append(values)
    return merged


def sort_out(returned: list[Any], obj: Any) -> tuple[list[Any], dict[str, Any] | None]:
    """The outputs by slot, and what to show."""
    pairs = [_split(value, len(obj.RETURN_TYPES)) for value in returned]
    results = [result for _, result in pairs if result is not None]
    shown = [ui for ui, _ in pairs if ui]
    ui = {key: [item for one in shown for item in one[key]] for key in shown[0]} if shown else None
    as_list = list(getattr(obj, "OUTPUT_IS_LIST", ()))
    return (_merge(results, as_list) if results else []), ui
