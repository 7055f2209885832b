"""A job's workflow: judged before ComfyUI sees it, and made its own, so that no two jobs share a file.

ComfyUI answers an identical prompt from its cache with the file names of an earlier one, and writes nothing. So the
results of each job get a folder of their own: `filename_prefix` is put below it, and output nodes without one get an
input that they do not know, which changes their place in the cache and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfygov.delivery.failure import JobFailed
from comfygov.model.delivery import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from comfygov.delivery.comfyui import NodeClass

PREFIX = "filename_prefix"
MARK = "comfygov_job"
MAX_NODES = 20_000
_EXPORT = "export it in ComfyUI with Workflow > Export (API), and send that file"
Graph = dict[str, Any]


def judge(document: Graph) -> Graph:
    """The nodes of a workflow in API format. Raises JobFailed `bad_workflow`."""
    if isinstance(document.get("prompt"), dict) and "class_type" not in document["prompt"]:
        document = document["prompt"]
    if isinstance(document.get("nodes"), list):
        raise JobFailed("bad_workflow", "the workflow is in the editor's format, which ComfyUI does not run", _EXPORT)
    if not document:
        raise JobFailed("bad_workflow", "the workflow has no nodes", _EXPORT)
    if len(document) > MAX_NODES:
        raise JobFailed("bad_workflow", f"the workflow has {len(document)} nodes; at most {MAX_NODES} are taken")
    for node_id, node in document.items():
        wrong = _wrong(node)
        if wrong:
            nodes = [NodeError(str(node_id)[:100], "", wrong)]
            raise JobFailed("bad_workflow", "the workflow is not in API format", _EXPORT, nodes=nodes)
    return document


def _wrong(node: object) -> str:
    if not isinstance(node, dict):
        return "it is no object"
    if not isinstance(node.get("class_type"), str):
        return "it has no `class_type`"
    return "" if isinstance(node.get("inputs"), dict) else "it has no `inputs`"


def own(graph: Graph, token: str, classes: Mapping[str, NodeClass], new_name: Callable[[str], str]) -> Graph:
    """A copy in which input files have the names of this job, and results lie in the folder `token`."""
    return {node_id: _own_node(node, token, classes, new_name) for node_id, node in graph.items()}


def _own_node(node: Graph, token: str, classes: Mapping[str, NodeClass], new_name: Callable[[str], str]) -> Graph:
    inputs = {name: _renamed(value, new_name) for name, value in node["inputs"].items()}
    about = classes.get(node["class_type"])
    prefix = inputs.get(PREFIX)
    if isinstance(prefix, str):
        inputs[PREFIX] = f"{token}/{prefix.lstrip('/')}"
    elif about is not None and about.is_output:
        inputs[MARK] = token
    return {**node, "inputs": inputs}


def _renamed(value: object, new_name: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return new_name(value)
    if isinstance(value, list):
        return [_renamed(inner, new_name) for inner in value]
    if isinstance(value, dict):
        return {name: _renamed(inner, new_name) for name, inner in value.items()}
    return value


def savers(graph: Graph, classes: Mapping[str, NodeClass]) -> list[str]:
    """Ids of the nodes that must write a file."""
    return [
        node_id
        for node_id, node in graph.items()
        if PREFIX in node["inputs"] and (about := classes.get(node["class_type"])) is not None and about.is_output
    ]
