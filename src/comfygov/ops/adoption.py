"""`gov init --comfyui-dir`: what an install is made of, as the first state of a home."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import msgspec

from comfygov.ops import adopting, adopting_environment
from comfygov.ports.git import git_folder
from comfygov.resolve import torch_family
from comfygov.truth import settings

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.ops.adopting import Adopted
    from comfygov.ops.context import Context


def packs(context: Context, venv: Path | None) -> Adopted:
    """The packs of the install. Without the environment that they run in none of them is switched on."""
    found = adopting.take(context, promoted=venv is not None)
    folder = git_folder(context.home.comfyui)
    if folder:
        found.say("written", str(folder / "comfygov-home"), "is the one file that was put into the install")
    _say_comfyui_edits(context, found)
    ids = [plugin.id for plugin in found.plugins if not plugin.place]
    if venv is None and ids:
        problem = "is not known, so packs are registered and not switched on before they were tried in a new one"
        found.say("environment", "of the install", problem, f"gov tx run {shlex.join(ids)}")
    if found.loads_others and venv is not None:
        settings.update_config(context.home.config_file, {"policy": {"unmanaged_nodes": "allow"}})
        context.home = type(context.home)(context.home.root, settings.read_config(context.home.config_file))
        found.say("setting", "[policy] unmanaged_nodes", 'is "allow", so that production loads what it loaded before')
    return found


def _say_comfyui_edits(context: Context, found: Adopted) -> None:
    edits = context.git.edited(context.home.comfyui)
    if edits:
        problem = f"has edits of yours, which stay and which trials do not see: {', '.join(edits[:5])}"
        found.say("edits", "ComfyUI", problem, "a version (gov version create) holds them")


def environment(context: Context, work: Path, declared: Declaration, venv: Path, found: Adopted) -> tuple[bytes, bytes]:
    """(pyproject, uv.lock) of the environment of the install, with a group for each pack that is switched on."""
    groups = {plugin.group: plugin.managed_deps for plugin in found.plugins if plugin.promoted}
    for plugin in found.plugins:
        lines = found.declared[plugin.id]
        for line in (*lines.malformed, *lines.rejected):
            found.say(
                "requirement", plugin.id, f"{line.file} line {line.line} `{line.text}` is not taken: {line.reason}"
            )
    wanted = msgspec.structs.replace(declared, groups={**declared.groups, **groups})
    pyproject, uv_lock, frozen = adopting_environment.lock_as_it_is(context, work, wanted, venv)
    found.findings += frozen.findings
    misfit = torch_family.misfit(torch_family.locked_versions(uv_lock.decode()))
    if misfit:
        found.say("package", "torch", f"{misfit[0]}: it is locked as it is", "gov tx run --dep with one of them")
    return pyproject, uv_lock
