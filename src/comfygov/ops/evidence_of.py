"""What is known of a change before anything of it runs, as evidence for the gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.ops import planning, reading_packs
from comfygov.resolve import fit, requirements, torch_backend, torch_family
from comfygov.trial import gates
from comfygov.truth import checkouts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.model.tx import Verdict
    from comfygov.ops.tx_trial import Trial
    from comfygov.trial import boot
    from comfygov.truth.snapshots import State


def gather(trial: Trial, proposed: State, plan: boot.BootPlan) -> gates.Evidence:
    """The evidence as it is before install scripts and boot."""
    return gates.Evidence(
        packs=tuple((pack.id, pack.plugin.source) for pack in trial.change.packs),
        moves_comfyui=trial.change.comfyui is not None,
        torch_misfit=torch_family.misfit(torch_family.locked_versions(proposed.uv_lock.decode())),
        packages=trial.tx.diff,
        core_impact=trial.tx.core_impact,
        baseline=trial.base.baseline,
        registry=proposed.registry,
        deny=trial.context.config.policy.deny,
        local_edits=tuple(_local_edits(trial)),
        misfits=tuple(_misfits(trial)),
        overlaps=trial.notes,
        forced=tuple(_forced(trial, proposed)),
        versions=dict(reading_packs.versions(trial.tx.post_freeze)),
        policy=trial.context.config.policy.gates,
        findings=reading_packs.findings(trial.readings),
        undeclared=_undeclared(trial, proposed, plan),
    )


def _undeclared(trial: Trial, proposed: State, plan: boot.BootPlan) -> tuple[str, ...]:
    return reading_packs.undeclared_imports(
        trial.change, trial.readings, trial.proposed_declaration(), plan.tree, trial.candidate, proposed.uv_lock
    )


def _local_edits(trial: Trial) -> Iterator[str]:
    """Edited files of ComfyUI and of the packs that production loads."""
    loaded = {"ComfyUI", *(plugin.id for plugin in trial.base.registry.enabled())}
    for name, checkout, _, _ in checkouts.targets(trial.context.home, trial.base):
        if name in loaded and trial.context.git.head(checkout) is not None:
            yield from (f"{name}: {file}" for file in trial.context.git.edited(checkout))


def _forced(trial: Trial, proposed: State) -> Iterator[str]:
    """Versions that this change forces, and those that production forces against what is on trial."""
    yield from (f"{entry.requirement}: {entry.reason}" for entry in trial.change.overrides)
    new = {entry.requirement for entry in trial.change.overrides}
    for entry in proposed.declared.resolutions:
        for line in trial.change.declared_lines() if entry.forced and entry.requirement not in new else ():
            if requirements.refuses(line, entry.requirement):
                yield f"{entry.requirement} is forced since {entry.txid} ({entry.reason}), against: {line}"


def _misfits(trial: Trial) -> Iterator[tuple[Verdict, str]]:
    """What the packs on trial say that is not so here; of the others what a new ComfyUI would make untrue."""
    machine, change = _machine(trial), trial.change
    for pack in change.packs:
        prefix = f"{pack.id}: " if len(change.packs) > 1 else ""
        yield from ((verdict, f"{prefix}{reason}") for verdict, reason in fit.misfits(pack.declared, machine))
    others = [plugin for plugin in trial.base.registry.enabled() if plugin.id not in change.ids]
    for plugin in others if change.comfyui else ():
        for verdict, reason in fit.misfits(planning.read_declared(trial.context, plugin), machine):
            if verdict == "fail":
                yield verdict, f"{plugin.id}: {reason}"


def _machine(trial: Trial) -> fit.Machine:
    python, comfyui = trial.context.interpreter, trial.change.comfyui
    return fit.Machine(
        python=python.version,
        comfyui=comfyui.version if comfyui else trial.base.baseline.comfyui_version,
        system=python.system,
        has_accelerator=torch_backend.has_accelerator(python.system),
    )
