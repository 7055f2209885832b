"""ComfyUI's words against a workflow, as errors with node, class and input, and with what would help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfygov.delivery.failure import JobFailed
from comfygov.model.delivery import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comfygov.delivery.comfyui import NodeClass

_MAX_TEXT = 2000
_TRACEBACK_LINES = 12
_MAX_NODES = 100


@dataclass(frozen=True)
class Missing:
    """A model that a node asks for: the folder of its kind, where that lies here, and where the lock gets it from."""

    folder: str
    places: tuple[str, ...]
    locked: str = ""


@dataclass(frozen=True)
class Knowledge:
    """What the version knows. `pack_of` names the pack of a class, `model` says (class, input, value) where a model
    belongs that was not found; None when the value is no model."""

    version: str
    pack_of: Mapping[str, str]
    model: Callable[[str, str, str], Missing | None] = lambda _class, _input, _value: None


def refuse_unknown_classes(workflow: dict[str, Any], classes: Mapping[str, NodeClass], knowledge: Knowledge) -> None:
    """Raises JobFailed `missing_node`: ComfyUI itself names the first such node alone, and no class."""
    unknown = [(node_id, node["class_type"]) for node_id, node in workflow.items() if node["class_type"] not in classes]
    if not unknown:
        return
    nodes = tuple(NodeError(node_id, name, _who_has(name, knowledge)) for node_id, name in unknown[:_MAX_NODES])
    names = ", ".join(dict.fromkeys(name for _, name in unknown[:5]))
    packs = sorted({knowledge.pack_of[name] for _, name in unknown if name in knowledge.pack_of})
    hint = f"the pack {packs[0]} did not load here: see the worker's log" if packs else "gov node add adds a pack"
    raise JobFailed("missing_node", f"this ComfyUI has no node class {names}", hint, nodes=nodes)


def _who_has(name: str, knowledge: Knowledge) -> str:
    pack = knowledge.pack_of.get(name)
    if pack:
        return f"version {knowledge.version} has this class in the pack {pack}, which did not register it here"
    return f"no pack of version {knowledge.version} has this class"


def refuse_refused(status: int, answer: dict[str, Any], workflow: dict[str, Any], knowledge: Knowledge) -> None:
    """Raises JobFailed unless ComfyUI took the whole workflow: it runs the valid part of one and drops the rest."""
    node_errors = answer.get("node_errors")
    nodes = _nodes(node_errors, workflow, knowledge) if isinstance(node_errors, dict) else ()
    if status == 200 and not nodes:
        return
    error = answer.get("error")
    reason = error if isinstance(error, dict) else {}
    words = str(reason.get("message") or (error if isinstance(error, str) else "")) or f"status {status}"
    details = tuple(filter(None, [_cut(str(reason.get("details") or ""))]))
    missing = next((node for node in nodes if "belongs into" in node.message), None)
    if missing is not None:
        hint = f"gov models verify fetches the models of version {knowledge.version}, or put the file there"
        raise JobFailed("missing_model", f"the model `{missing.received}` is not there", hint, nodes=nodes)
    if nodes:
        words = f"{len(nodes)} input{'s' * (len(nodes) > 1)} of the workflow cannot be used"
    raise JobFailed("bad_workflow", f"ComfyUI refused the workflow: {_cut(words)}", details=details, nodes=nodes)


def _nodes(found: dict[str, Any], workflow: dict[str, Any], knowledge: Knowledge) -> tuple[NodeError, ...]:
    nodes = []
    for node_id, about in found.items():
        if not isinstance(about, dict):
            nodes.append(NodeError(str(node_id), "", _cut(str(about))))
            continue
        class_type = str(about.get("class_type") or workflow.get(node_id, {}).get("class_type", ""))
        errors = about.get("errors")
        known = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
        nodes += [_node(str(node_id), class_type, error, knowledge) for error in known]
    return tuple(nodes[:_MAX_NODES])


def _node(node_id: str, class_type: str, error: dict[str, Any], knowledge: Knowledge) -> NodeError:
    extra = error.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    name, received = str(extra.get("input_name") or ""), extra.get("received_value")
    words = ": ".join(filter(None, [str(error.get("message") or ""), str(error.get("details") or "")]))
    if error.get("type") == "value_not_in_list" and isinstance(received, str):
        missing = knowledge.model(class_type, name, received)
        if missing is not None:
            return NodeError(node_id, class_type, _where(received, missing), name, received)
    if error.get("type") == "custom_validation_failed" and "file" in words.lower():
        words += " (send it with the job, in `images`)"
    shown = received if isinstance(received, (int, float, bool)) or received is None else _cut(str(received))
    return NodeError(node_id, class_type, _cut(words), name, shown)


def _where(name: str, missing: Missing) -> str:
    where = " or ".join(missing.places[:2]) or f"models/{missing.folder}"
    locked = f"; the version has it from {missing.locked}" if missing.locked else ""
    return f"the model `{name}` belongs into {where}, and is not there{locked}"


def refuse_failed(entry: dict[str, Any]) -> None:
    """Raises JobFailed unless the history says that the prompt ran to its end."""
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    messages = {m[0]: m[1] for m in status.get("messages") or () if isinstance(m, (list, tuple)) and len(m) == 2}
    if isinstance(error := messages.get("execution_error"), dict):
        raise _raised(error)
    if "execution_interrupted" in messages:
        raise JobFailed("interrupted", "the workflow was interrupted in ComfyUI", retryable=True)
    if not status.get("completed") or "execution_success" not in messages:
        words = str(status.get("status_str") or "nothing")
        raise JobFailed("execution_failed", f"ComfyUI did not finish the workflow; its history says {words}")


def _raised(error: dict[str, Any]) -> JobFailed:
    node_id, class_type = str(error.get("node_id")), str(error.get("node_type"))
    kind = str(error.get("exception_type") or "")
    words = _cut(str(error.get("exception_message") or "").strip()) or kind
    trace = error.get("traceback")
    lines = [line.rstrip() for part in trace for line in str(part).splitlines()] if isinstance(trace, list) else []
    code, hint = "execution_failed", "the traceback says where"
    if "OutOfMemory" in kind or "out of memory" in words.lower():
        code, hint = "out_of_memory", "smaller pictures or batches, or a GPU with more memory"
    return JobFailed(
        code,
        f"node {node_id} ({class_type}) failed: {words}",
        hint,
        details=[f"{kind}: {words}", *lines[-_TRACEBACK_LINES:]],
        nodes=[NodeError(node_id, class_type, words)],
    )


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " …"
