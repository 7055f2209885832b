"""Booting a state in a private tree: what the baseline of init and every transaction share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from comfygov.ops import boxing
from comfygov.ops.context import trial_run_id, work_directory
from comfygov.ops.production import device_arguments
from comfygov.ports import clones, fs
from comfygov.ports.git import recorded_source
from comfygov.trial import boot, command, tree
from comfygov.trial.bytecode import BytecodeCache
from comfygov.truth.commit import model_paths_text
from comfygov.truth.home import cache_root

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import ComfyUIPin
    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State


def plan(
    context: Context,
    state: State,
    name: str,
    environment: Path,
    timeout_seconds: float | None,
) -> boot.BootPlan:
    """Make the private tree of `state` in `state/work/NAME-boot` and say how it is to be booted."""
    work = work_directory(context, f"{name}-boot")
    private = work / "ComfyUI"
    enabled = [
        tree.Pack(plugin.id, recorded_source(plugin.source), plugin.commit) for plugin in state.registry.enabled()
    ]
    python = context.interpreter
    compiled = BytecodeCache(cache_root() / "bytecode", f"{python.version}-{python.system}", python.path)
    pin = state.declared.comfyui
    tree.make(context.git, _comfyui_objects(context, pin), pin.commit, enabled, private, compiled)
    context.home.logs.mkdir(parents=True, exist_ok=True)
    stdout, stderr = (context.home.logs / f"{name}.{stream}.log" for stream in ("stdout", "stderr"))
    for log in (stdout, stderr):
        log.unlink(missing_ok=True)
    return boot.BootPlan(
        python=str(environment / "bin" / "python"),
        environment=environment,
        tree=private,
        work=work,
        packs=(*command.shipped_packs(private), *(pack.name for pack in enabled)),
        model_paths=_model_paths(context, work),
        extra_args=(*_device_arguments(context), *_input_arguments(context), *context.config.tx.extra_args),
        sandbox=boxing.box(context, environment),
        limits=boxing.limits(context),
        timeout_seconds=timeout_seconds or context.config.tx.timeout_seconds,
        stdout=stdout,
        stderr=stderr,
        run_id=trial_run_id(context, name),
    )


def _comfyui_objects(context: Context, pin: ComfyUIPin) -> Path:
    """A repository that has the commit: production's own checkout, else the cache."""
    if context.git.contains(context.home.comfyui, pin.commit):
        return context.home.comfyui
    return clones.ensure_cached(context.git, recorded_source(pin.repo), pin.commit)


def _model_paths(context: Context, work: Path) -> list[Path]:
    """What production sees of models: the home's, those in its own tree, and its own path file."""
    home = context.home
    seen = work / "extra_model_paths.yaml"
    text = model_paths_text("comfygov", home.models, is_default=True)
    seen.write_text(text + model_paths_text("production", home.comfyui / "models", is_default=False), encoding="utf-8")
    own = home.comfyui / "extra_model_paths.yaml"
    return [seen, own] if own.is_file() else [seen]


def _device_arguments(context: Context) -> tuple[str, ...]:
    return ("--cpu",) if context.config.tx.gpu == "none" else device_arguments(context)


def _input_arguments(context: Context) -> tuple[str, ...]:
    """Production's inputs can be read by workflows of a trial."""
    inputs = context.home.comfyui / "input"
    return ("--input-directory", str(inputs)) if inputs.is_dir() else ()


def with_baseline(context: Context, state: State, name: str, timeout_seconds: float | None) -> State:
    """`state` with what one boot of it showed; raises BootFailed when ComfyUI does not come up."""
    environment = context.generations.path(state.generation).absolute()
    boot_plan = plan(context, state, name, environment, timeout_seconds)
    try:
        with boot.booted(boot_plan) as booted:
            return dataclasses.replace(state, baseline=booted.health)
    finally:
        fs.remove_tree(boot_plan.work)
