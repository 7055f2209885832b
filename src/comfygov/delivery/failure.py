"""How a job fails: with a stable code, a sentence, and whether another try may help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.model.delivery import JobError, NodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.errors import GovError


class JobFailed(Exception):
    """The job is over, the worker is not."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        details: Sequence[str] = (),
        nodes: Sequence[NodeError] = (),
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.error = JobError(code, message, hint, tuple(details), tuple(nodes), retryable)


def from_gov_error(error: GovError, *, retryable: bool = False) -> JobFailed:
    return JobFailed(error.code.text, error.message, error.hint, details=error.details, retryable=retryable)


def sentence(error: JobError) -> str:
    """The error in one string, for those who read nothing else."""
    lines = [error.message, *(f"  {line}" for line in error.details)]
    lines += [f"  {node_words(node)}" for node in error.nodes]
    return "\n".join([*lines, f"hint: {error.hint}"] if error.hint else lines)


def as_output(error: JobError) -> dict[str, Any]:
    """The error as RunPod's own worker returns one: `error` is a string, the rest stands beside it."""
    return {"error": sentence(error), **msgspec.to_builtins(error)}


def node_words(node: NodeError) -> str:
    where = f"node {node.node_id} ({node.class_type})" if node.class_type else f"node {node.node_id}"
    return f"{where}, input `{node.input}`: {node.message}" if node.input else f"{where}: {node.message}"
