"""What keeps production as it is while it runs: installers that packs start are answered by stand-ins."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from comfygov.ports import desk

if TYPE_CHECKING:
    from comfygov.ops.context import Context


def variables(context: Context, path: str) -> dict[str, str]:
    """The variables for a ComfyUI in production whose PATH is `path`, as `[policy] runtime_installs` says:
    `block` refuses with the command that tries it, `record` writes it down and lets it through, `allow` is silent."""
    policy = context.config.policy.runtime_installs
    if policy == "allow":
        return {}
    programs = desk.write_programs(context.home.state / "programs").absolute()
    return {
        "PATH": f"{programs}{os.pathsep}{path}",
        "PYTHONPATH": str(desk.PYTHON_PATH),
        "COMFYGOV_PROGRAMS": str(programs),
        "COMFYGOV_CUSTOM_NODES": str(context.home.custom_nodes),
        "COMFYGOV_INSTALLS": policy,
        "COMFYGOV_INSTALL_LOG": str((context.home.logs / "installs.jsonl").absolute()),
    }
