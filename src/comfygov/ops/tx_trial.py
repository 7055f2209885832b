"""One trial: lock, candidate environment, private tree, boot, gates. Production is only read."""

from __future__ import annotations

import dataclasses
import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.errors import GovError
from comfygov.model.state import Baseline
from comfygov.model.tx import ConflictReport, Observed, PromotionPlan, Transaction
from comfygov.ops import locking, smoke, trying
from comfygov.ops.context import Context, discard_work
from comfygov.ports import clock, faults, fs
from comfygov.ports.progress import Stages
from comfygov.resolve import fit, requirements, torch_backend, torch_family
from comfygov.trial import boot, gates, sandbox
from comfygov.truth import checkouts, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.state import Declaration, Plugin
    from comfygov.resolve.requirements import Declared
    from comfygov.truth.snapshots import State


@dataclasses.dataclass
class Trial:
    """One trial under way: what it starts from and what it has found out."""

    context: Context
    stages: Stages
    base: State
    plugin: Plugin
    declared: Declared
    tx: Transaction
    timeout_seconds: float | None

    @property
    def work(self) -> Path:
        return self.context.home.work / self.tx.txid

    @property
    def candidate(self) -> Path:
        return (self.context.home.candidates / self.tx.txid).absolute()

    def update(self, **changes: object) -> None:
        """Change the record and write it."""
        changes["stage_seconds"] = self.stages.seconds
        self.tx = self.context.transactions.save(msgspec.structs.replace(self.tx, **changes))


def execute(trial: Trial) -> Transaction:
    """Run an opened trial to its verdict; whatever stops it, the record says so."""
    try:
        prepared = _prepare(trial)
        if prepared is None:
            discard_work(trial.context, trial.tx.txid)
        else:
            _boot_and_judge(trial, *prepared)
    except BaseException as error:
        words = error.message if isinstance(error, GovError) else (str(error) or type(error).__name__)
        trial.update(status="failed", ended_at=clock.now(), error=words, candidate_env=None)
        discard_work(trial.context, trial.tx.txid)
        raise
    finally:
        fs.remove_tree(trial.context.home.work / f"{trial.tx.txid}-boot")
    return trial.tx


def _prepare(trial: Trial) -> tuple[State, boot.BootPlan] | None:
    """The state that promote would commit, its environment and its private tree.

    None when the resolver says no (the record tells why). What needs no lock is made while uv waits for
    the index: the tree, and hardlinks where new packages are likely.
    """
    if trial.declared.malformed:
        _record_conflict(trial, "malformed", _malformed_summary(trial.declared), "")
        return None
    context, plugin = trial.context, trial.plugin
    tried = msgspec.structs.replace(
        plugin, managed_deps=tuple(trial.declared.requirements), enabled=True, promoted=True
    )
    state = dataclasses.replace(trial.base, registry=trial.base.registry.with_plugin(tried))
    with ThreadPoolExecutor(2) as pool:
        tree = pool.submit(trying.plan, context, state, trial.tx.txid, trial.candidate, trial.timeout_seconds)
        links: Future[None] | None = None
        if not requirements.satisfied(trial.declared.requirements, trial.tx.pre_freeze):
            links = pool.submit(_begin_candidate, trial)
        proposed = _lock(trial, state)
        if proposed is None:
            return None
        with trial.stages.stage("candidate environment"):
            _complete_candidate(trial, proposed, links)
        with trial.stages.stage("private code tree"):
            plan = tree.result()
    _record_plan(trial, proposed)
    faults.point("trial.prepared")
    return proposed, plan


def _begin_candidate(trial: Trial) -> None:
    trial.context.generations.begin(trial.candidate, trial.context.interpreter, trial.base.generation)


def _complete_candidate(trial: Trial, proposed: State, links: Future[None] | None) -> None:
    """Finish the environment of the trial; a sealed one that fits is used as it is when it is read-only."""
    generations, read_only = trial.context.generations, _sandbox(trial).protects_environment
    if links is not None:
        links.result()
    if read_only and generations.is_sound(proposed.generation):
        fs.remove_tree(trial.candidate)
        trial.candidate.parent.mkdir(parents=True, exist_ok=True)
        trial.candidate.symlink_to(generations.path(proposed.generation))
        return
    if links is None:
        _begin_candidate(trial)
    generations.complete(trial.work, trial.candidate, trial.context.interpreter)
    if not read_only:
        fs.unshare_tree(trial.candidate)


def _sandbox(trial: Trial) -> sandbox.Sandbox:
    return sandbox.choose(trial.context.config.tx.sandbox)


def _lock(trial: Trial, state: State) -> State | None:
    """`state` locked with the pack's group; None, and a conflict report, when nothing solves it."""
    declared = proposed_declaration(trial)
    try:
        with trial.stages.stage("lock"):
            pyproject, uv_lock = locking.lock(trial.context, trial.work, declared, trial.base.uv_lock)
    except locking.NoSolution as problem:
        form = "malformed" if problem.verdict == "malformed" else "no_solution"
        _record_conflict(trial, form, _conflict_summary(trial.plugin.id, problem.uv_text), problem.uv_text)
        return None
    generation = locking.identify(trial.context, trial.work, uv_lock)
    return state.relocked(pyproject, uv_lock, generation)


def proposed_declaration(trial: Trial) -> Declaration:
    groups = {**trial.base.declared.groups, trial.plugin.group: tuple(trial.declared.requirements)}
    bare = msgspec.structs.replace(trial.base.declared, groups=groups)
    return locking.with_settings(bare, trial.context.config, trial.context.interpreter)


def _malformed_summary(declared: Declared) -> str:
    line = declared.malformed[0]
    shown = (
        f"{line.file} line {line.line}: `{line.text}` is {line.reason}" if line.text else f"{line.file}: {line.reason}"
    )
    likely = requirements.suggestion(line.text)
    return f"{shown} (likely meant: `{likely}`)" if likely else shown


def _conflict_summary(node_id: str, uv_text: str) -> str:
    """What kind of no it is, in one line; uv's own words follow it."""
    if "was not found" in uv_text or "there is no version of" in uv_text:
        return f"{node_id} asks for a package or a version that the index does not have"
    if "--no-build" in uv_text or "uilding source distributions is disabled" in uv_text:
        return f"{node_id} asks for a package that must be built from source ([policy] source_builds allows that)"
    return f"{node_id} and what is there exclude each other"


def _record_conflict(trial: Trial, form: str, summary: str, uv_text: str) -> None:
    import re

    groups = tuple(sorted(set(re.findall(r"comfy-env:([\w.-]+)", uv_text))))
    report = ConflictReport(trial.tx.txid, form, summary, groups, tuple(trial.declared.malformed), uv_text)  # type: ignore[arg-type]
    path = trial.context.home.conflicts / f"{trial.tx.txid}.json"
    store.save(path, report)
    relative = trial.context.home.relative(path)
    trial.update(status="needs_resolution", ended_at=clock.now(), conflict_report=relative, error=summary)


def _record_plan(trial: Trial, proposed: State) -> None:
    context = trial.context
    freeze = record.freeze(trial.candidate)
    packages = record.difference(trial.tx.pre_freeze, freeze)
    core = record.only(context.config.policy.core_packages, packages)
    trial.update(
        candidate_env=context.home.relative(trial.candidate),
        post_freeze=freeze,
        diff=packages,
        core_impact=core,
        promotion_plan=PromotionPlan(
            base_snapshot=trial.tx.base_snapshot,
            generation=proposed.generation,
            state_digest=state_digest(proposed),
            node_commit_before=_promoted_commit(trial),
            node_commit_after=trial.plugin.commit,
            packages=packages,
            needs_core_approval=not core.empty(),
        ),
    )


def _promoted_commit(trial: Trial) -> str | None:
    known = trial.base.registry.get(trial.plugin.id)
    return known.commit if known and known.promoted else None


def state_digest(state: State) -> str:
    """What a trial saw: the lock, and every commit of ComfyUI and of the enabled packs."""
    commits = [state.declared.comfyui.commit, *(f"{p.id} {p.commit}" for p in state.registry.enabled())]
    return hashlib.sha256(state.uv_lock + "\n".join(commits).encode()).hexdigest()


def _boot_and_judge(trial: Trial, proposed: State, plan: boot.BootPlan) -> None:
    evidence = gates.Evidence(
        node_id=trial.plugin.id,
        source=trial.plugin.source,
        torch_misfit=torch_family.misfit(torch_family.locked_versions(proposed.uv_lock.decode())),
        packages=trial.tx.diff,
        core_impact=trial.tx.core_impact,
        baseline=trial.base.baseline,
        registry=proposed.registry,
        deny=trial.context.config.policy.deny,
        local_edits=tuple(_local_edits(trial)),
        misfits=tuple(fit.misfits(trial.declared, _machine(trial))),
    )
    before = record.freeze(trial.candidate)
    script = plan.tree / "custom_nodes" / trial.plugin.id / "install.py"
    if trial.declared.has_install_script:
        with trial.stages.stage("install.py"):
            done = boot.run_script(plan, [plan.python, str(script)], script.parent)
            evidence.install_script = (done.exit_code, done.lines)
    exit_code = _boot(trial, plan, evidence)
    after = record.freeze(trial.candidate)
    evidence.environment_changes = record.difference(before, after)
    _conclude(trial, plan, evidence, after, exit_code)


def _local_edits(trial: Trial) -> Iterator[str]:
    """Edited files of ComfyUI and of the packs that production loads."""
    loaded = {"ComfyUI", *(plugin.id for plugin in trial.base.registry.enabled())}
    for name, checkout, _, _ in checkouts.targets(trial.context.home, trial.base):
        if name in loaded and trial.context.git.head(checkout) is not None:
            yield from (f"{name}: {file}" for file in trial.context.git.edited(checkout))


def _machine(trial: Trial) -> fit.Machine:
    python = trial.context.interpreter
    return fit.Machine(
        python=python.version,
        comfyui=trial.base.baseline.comfyui_version,
        system=python.system,
        has_accelerator=torch_backend.has_accelerator(python.system),
    )


def _boot(trial: Trial, plan: boot.BootPlan, evidence: gates.Evidence) -> int | None:
    """Boot the candidate and run the smoke checks; the exit code when ComfyUI ended by itself."""
    try:
        with trial.stages.stage("boot ComfyUI"), boot.booted(plan) as booted:
            evidence.health = booted.health
            faults.point("trial.booted")
            evidence.smoke += smoke.workflows(trial.context, booted.api)
    except boot.BootFailed as failure:
        evidence.boot_error = failure.message
        evidence.boot_log = failure.details
        return failure.boot_exit_code
    evidence.smoke += smoke.command(trial.context, plan)
    return None


def _conclude(
    trial: Trial, plan: boot.BootPlan, evidence: gates.Evidence, after: tuple[str, ...], exit_code: int | None
) -> None:
    verdicts = gates.judge(evidence)
    failed = gates.blocking(verdicts)
    script = evidence.install_script
    trial.update(
        status="failed" if failed else "completed",
        ended_at=clock.now(),
        post_freeze=after,
        diff=record.difference(trial.tx.pre_freeze, after),
        gates=verdicts,
        logs=msgspec.structs.replace(trial.tx.logs, run_exit_code=exit_code),
        observed=Observed(
            sandbox=plan.sandbox.name,
            boot_seconds=evidence.health.boot_seconds if evidence.health else 0.0,
            install_script="" if script is None else f"exit code {script[0]}",
            health=evidence.health or Baseline(),
            environment_changes=evidence.environment_changes,
        ),
        error="; ".join(gate.reason for gate in failed),
    )
