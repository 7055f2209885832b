"""The checks that a home's settings add to every trial: workflows and a command."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import GovError
from comfygov.model.tx import Gate
from comfygov.ports.secrets import hidden
from comfygov.trial import boot

if TYPE_CHECKING:
    from comfygov.ops.context import Context
    from comfygov.ports.comfy_api import ComfyApi


def workflows(context: Context, api: ComfyApi) -> list[Gate]:
    """Run each of `tx.smoke_workflows` (API format, paths from the home) on a ComfyUI that answers."""
    return [_workflow(context, api, name) for name in context.config.tx.smoke_workflows]


def _workflow(context: Context, api: ComfyApi, name: str) -> Gate:
    path = context.home.root / Path(name).expanduser()
    try:
        workflow = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        return Gate("smoke_workflow", "fail", f"{name} cannot be read: {error}")
    prompt_id = secrets.token_hex(16)
    try:
        api.submit(workflow, prompt_id)
        entry = api.result(prompt_id, context.config.tx.timeout_seconds)
    except GovError as error:
        return Gate("smoke_workflow", "fail", f"{name}: {error.message}", error.details)
    return Gate("smoke_workflow", "pass", f"{name} ran ({len(entry.get('outputs', {}))} output nodes)")


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
