"""The checks that a home's settings add to every trial: workflows and a command."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import GovError
from comfygov.model.state import WorkflowRun
from comfygov.model.tx import Gate
from comfygov.ops import smoke_expected
from comfygov.ports.secrets import hidden
from comfygov.trial import boot

if TYPE_CHECKING:
    from comfygov.model.state import Baseline
    from comfygov.ops.context import Context
    from comfygov.ports.comfy_api import ComfyApi


def workflows(context: Context, api: ComfyApi, before: Baseline) -> tuple[list[Gate], tuple[WorkflowRun, ...]]:
    """Run each of `tx.smoke_workflows` (API format, paths from the home) on a ComfyUI that answers, and hold what it
    gives against what it gave `before` or what is declared. Returns the gates, and what those that passed gave."""
    judged = [_workflow(context, api, name, before) for name in context.config.tx.smoke_workflows]
    return [gate for gate, _ in judged], tuple(run for _, run in judged if run is not None)


def _workflow(context: Context, api: ComfyApi, name: str, before: Baseline) -> tuple[Gate, WorkflowRun | None]:
    path = context.home.root / Path(name).expanduser()
    try:
        data = path.read_bytes()
        workflow = msgspec.json.decode(data, type=dict[str, Any])
        expected = smoke_expected.declared(path)
    except (OSError, msgspec.MsgspecError) as error:
        return Gate("smoke_workflow", "fail", f"{name} (or what is expected of it) cannot be read: {error}"), None
    prompt_id = secrets.token_hex(16)
    try:
        api.submit(workflow, prompt_id)
        entry = api.result(prompt_id, context.config.tx.timeout_seconds)
    except GovError as error:
        return Gate("smoke_workflow", "fail", f"{name}: {error.message}", error.details), None
    run = WorkflowRun(name, hashlib.sha256(data).hexdigest(), smoke_expected.counted(entry))
    last = next((run for run in before.workflows if run.name == name), None)
    wanted = smoke_expected.wanted(expected, last, run.digest)
    problems = [*smoke_expected.differences(wanted, run.outputs)] if wanted is not None else []
    if expected:
        problems += smoke_expected.picture_problems(api, entry, expected, path.parent)
    if problems:
        return Gate("smoke_workflow", "fail", f"{name} ran and gave something else", tuple(problems)), None
    held = "as expected" if expected or wanted is not None else "nothing to compare with yet"
    return Gate("smoke_workflow", "pass", f"{name} ran ({len(run.outputs)} output nodes, {held})"), run


def command(context: Context, plan: boot.BootPlan) -> list[Gate]:
    """Run `tx.smoke_test_cmd` with the environment that is on trial first on PATH."""
    argv = context.config.tx.smoke_test_cmd
    if not argv:
        return []
    shown = hidden(" ".join(argv))
    ended = boot.run_script(plan, ["/usr/bin/env", *argv], plan.tree)
    if ended.exit_code == 0:
        return [Gate("smoke_test_cmd", "pass", f"`{shown}` ended well")]
    how = "did not end in time" if ended.exit_code is None else f"failed with exit code {ended.exit_code}"
    return [Gate("smoke_test_cmd", "fail", f"`{shown}` {how}", ended.lines)]
