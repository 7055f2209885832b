"""One trial: lock, candidate environment, private tree, boot, gates. Production is only read."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.errors import GovError
from comfygov.model.state import Baseline
from comfygov.model.tx import Observed, PromotionPlan, Status, Transaction
from comfygov.ops import (
    absorbing,
    boxing,
    doctor_sandbox,
    evidence_of,
    explaining,
    forcing,
    locking,
    reading_packs,
    settling,
    smoke,
    trying,
)
from comfygov.ops.absorbing import Absorber
from comfygov.ops.change import digest_of
from comfygov.ops.context import Context, discard_work
from comfygov.ports import clock, faults, fs
from comfygov.ports.desk import compile_inside
from comfygov.ports.progress import Stages
from comfygov.resolve import requirements
from comfygov.trial import boot, gates, watching
from comfygov.truth import store

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import Declaration
    from comfygov.model.tx import ConflictReport, InstallRequest, PackActs, Verdict
    from comfygov.ops.change import Change
    from comfygov.trial.reading import Reading
    from comfygov.truth.snapshots import State


_MAX_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the record is called when all gates let the change pass, and when they do not."""

    passed: Status
    failed: Status


@dataclasses.dataclass
class Trial:
    """One trial under way: what it starts from and what it has found out."""

    context: Context
    stages: Stages
    base: State
    change: Change
    tx: Transaction
    timeout_seconds: float | None
    outcome: Outcome
    notes: tuple[tuple[Verdict, str], ...] = ()
    installs: list[InstallRequest] = dataclasses.field(default_factory=list)
    readings: dict[str, Reading] = dataclasses.field(default_factory=dict)
    given_up: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def work(self) -> Path:
        return self.context.home.work / self.tx.txid

    @property
    def candidate(self) -> Path:
        return (self.context.home.candidates / self.tx.txid).absolute()

    def proposed_declaration(self) -> Declaration:
        bare = self.change.declaration(self.base.declared, self.tx.txid)
        return locking.with_settings(bare, self.context.config, self.context.interpreter)

    def update(self, **changes: object) -> None:
        """Change the record and write it. With a verdict, what it was before a repetition is over."""
        changes["stage_seconds"] = self.stages.seconds
        if "status" in changes:
            changes["earlier"] = None
        self.tx = self.context.transactions.save(msgspec.structs.replace(self.tx, **changes))


def execute(trial: Trial) -> Transaction:
    """Run an opened trial to its verdict; whatever stops it, the record says so."""
    try:
        (trial.context.home.root / trial.tx.logs.events).unlink(missing_ok=True)
        _run_rounds(trial)
    except BaseException as error:
        _record_stop(trial, error)
        discard_work(trial.context, trial.tx.txid)
        raise
    finally:
        for part in ("boot", "desk"):
            fs.remove_tree(trial.context.home.work / f"{trial.tx.txid}-{part}")
    return trial.tx


def _record_stop(trial: Trial, error: BaseException) -> None:
    """A trial that came to no verdict failed; a repetition that came to none leaves the verdict that there was."""
    if trial.tx.earlier is not None:
        trial.context.transactions.save(trial.tx.earlier)
        return
    words = error.message if isinstance(error, GovError) else (str(error) or type(error).__name__)
    trial.update(status=trial.outcome.failed, ended_at=clock.now(), error=words, candidate_env=None)


def _run_rounds(trial: Trial) -> None:
    """What packs install while they start is declared for them, and all of it is tried once more: what promote
    would commit is what has run."""
    for round_number in range(1, _MAX_ROUNDS + 1):
        prepared = _prepare(trial)
        if prepared is None:
            discard_work(trial.context, trial.tx.txid)
            return
        seen = _run_everything(trial, *prepared)
        if not seen.absorber.absorbed or round_number == _MAX_ROUNDS:
            _conclude(trial, seen)
            return
        _take_over(trial, seen.absorber)


def _take_over(trial: Trial, absorber: Absorber) -> None:
    for pack, lines in absorber.absorbed.items():
        trial.context.progress.note(
            f"{pack} installed {', '.join(lines)} by itself: it is tried again with that declared"
        )
    trial.installs += absorber.requests
    trial.change = absorbing.extended(trial.change, absorber.absorbed)
    moves = tuple(pack.move() for pack in trial.change.packs)
    trial.update(declared=trial.change.declared_lines(), nodes=moves)
    fs.remove_tree(trial.candidate)


def _prepare(trial: Trial) -> tuple[State, boot.BootPlan] | None:
    """The state that promote would commit, its environment and its private tree.

    None when the resolver says no (the record tells why). What needs no lock is made while uv waits for
    the index: the tree, and hardlinks where new packages are likely.
    """
    unreadable = trial.change.malformed(trial.base.declared)
    if unreadable:
        _record_conflict(trial, explaining.malformed(trial.tx.txid, trial.change, unreadable))
        return None
    declared = trial.proposed_declaration()
    registry = trial.change.registry(trial.base.registry)
    state = dataclasses.replace(trial.base, registry=registry)
    unlocked = state.relocked(locking.render(declared), trial.base.uv_lock, trial.base.generation)
    with ThreadPoolExecutor(2) as pool:
        tree = pool.submit(_make_tree, trial, unlocked)
        links: Future[None] | None = None
        if _likely_to_install(trial):
            links = pool.submit(_begin_candidate, trial)
        proposed = _lock(trial, state, declared)
        if proposed is None:
            return None
        with trial.stages.stage("candidate environment"):
            _complete_candidate(trial, proposed, links)
        with trial.stages.stage("private code tree"):
            plan = tree.result()
    _record_plan(trial, proposed)
    faults.point("trial.prepared")
    return proposed, plan


def _make_tree(trial: Trial, state: State) -> boot.BootPlan:
    """The private tree, and what reading the packs in it finds while nothing of them has run."""
    plan = trying.plan(trial.context, state, trial.tx.txid, trial.candidate, trial.timeout_seconds)
    trial.readings = trial.readings or reading_packs.read(trial.context.git, trial.change, plan.tree)
    return plan


def _likely_to_install(trial: Trial) -> bool:
    change = trial.change
    moves = change.upgrades or change.dropped or change.pins or change.overrides
    return bool(moves) or not requirements.satisfied(change.declared_lines(), trial.tx.pre_freeze)


def _begin_candidate(trial: Trial) -> None:
    trial.context.generations.begin(
        trial.candidate, trial.context.interpreter, trial.base.generation, trial.given_up.is_set
    )


def _complete_candidate(trial: Trial, proposed: State, links: Future[None] | None) -> None:
    """Finish the environment of the trial; a sealed one that fits is used as it is when it is read-only."""
    generations, read_only = trial.context.generations, boxing.box(trial.context).protects_environment
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


def _lock(trial: Trial, state: State, declared: Declaration) -> State | None:
    """`state` locked as `declared`; None, and a conflict report, when nothing solves it."""
    change = trial.change
    wishes = settling.Wishes(change.upgrades, change.asked_for())
    try:
        with trial.stages.stage("lock"):
            settled = settling.settle(trial.context, trial.work, declared, trial.base.uv_lock, wishes)
    except locking.NoSolution as problem:
        trial.given_up.set()
        with trial.stages.stage("explain the conflict"):
            report = explaining.explain(trial.context, trial.work, trial.base, change, declared, problem)
        _record_conflict(trial, msgspec.structs.replace(report, txid=trial.tx.txid))
        return None
    if trial.tx.earlier is None:
        forcing.refuse_in_vain(change, settled)
    trial.notes = settled.notes
    generation = locking.identify(trial.context, trial.work, settled.pyproject, settled.uv_lock)
    return state.relocked(settled.pyproject, settled.uv_lock, generation)


def _record_conflict(trial: Trial, report: ConflictReport) -> None:
    path = trial.context.home.conflicts / f"{trial.tx.txid}.json"
    store.save(path, report)
    relative = trial.context.home.relative(path)
    trial.update(status="needs_resolution", ended_at=clock.now(), conflict_report=relative, error=report.summary)


def _record_plan(trial: Trial, proposed: State) -> None:
    context = trial.context
    freeze = record.freeze(trial.candidate)
    packages = record.difference(trial.tx.pre_freeze, freeze)
    core = record.only(context.config.policy.core_packages, packages)
    first = trial.tx.nodes[0] if trial.tx.nodes else None
    trial.update(
        candidate_env=context.home.relative(trial.candidate),
        post_freeze=freeze,
        diff=packages,
        core_impact=core,
        promotion_plan=PromotionPlan(
            base_snapshot=trial.tx.base_snapshot,
            generation=proposed.generation,
            state_digest=digest_of(proposed),
            node_commit_before=first.before if first else None,
            node_commit_after=first.after if first else None,
            packages=packages,
            needs_core_approval=not core.empty(),
        ),
    )


@dataclasses.dataclass
class Seen:
    """One boot of the candidate, and all that is known of it. `exit_code` is that of a ComfyUI that ended itself."""

    plan: boot.BootPlan
    absorber: Absorber
    evidence: gates.Evidence
    after: tuple[str, ...]
    exit_code: int | None


def _watched(trial: Trial, proposed: State, plan: boot.BootPlan) -> tuple[boot.BootPlan, Absorber]:
    """The plan with a desk beside it, at which installs are answered."""
    desk = trial.context.home.work / f"{trial.tx.txid}-desk"
    fs.remove_tree(desk)
    python = trial.context.interpreter
    compile_inside(python.path, python.build.split()[0])
    absorber = Absorber(
        trial.context,
        desk / "lock",
        trial.change,
        trial.proposed_declaration(),
        proposed.uv_lock,
        record.freeze(trial.candidate),
        desk / "env",
    )
    events = trial.context.home.root / trial.tx.logs.events
    watch = boot.Watch(desk.absolute(), events, absorber.answer, absorber.prepare().absolute())
    return dataclasses.replace(plan, watch=watch), absorber


def _run_everything(trial: Trial, proposed: State, unwatched: boot.BootPlan) -> Seen:
    plan, absorber = _watched(trial, proposed, unwatched)
    evidence = evidence_of.gather(trial, proposed, plan)
    before = record.freeze(trial.candidate)
    exit_code = None
    if gates.denied(evidence):
        evidence.boot_error = "nothing of it was run: it is on the deny list"
    else:
        _run_install_scripts(trial, plan, evidence)
        exit_code = _boot(trial, plan, evidence)
    after = record.freeze(trial.candidate)
    evidence.environment_changes = record.difference(before, after)
    return Seen(plan, absorber, evidence, after, exit_code)


def _run_install_scripts(trial: Trial, plan: boot.BootPlan, evidence: gates.Evidence) -> None:
    for pack in trial.change.packs:
        if pack.declared.has_install_script:
            script = plan.tree / "custom_nodes" / pack.id / "install.py"
            with trial.stages.stage("install.py"):
                done = boot.run_script(plan, [plan.python, str(script)], script.parent, pack.id)
            evidence.install_scripts[pack.id] = (done.exit_code, done.lines)


def _boot(trial: Trial, plan: boot.BootPlan, evidence: gates.Evidence) -> int | None:
    """Boot the candidate and run the smoke checks; the exit code when ComfyUI ended by itself."""
    try:
        with trial.stages.stage("boot ComfyUI"), boot.booted(plan) as booted:
            evidence.health = booted.health
            faults.point("trial.booted")
            verdicts, runs = smoke.workflows(trial.context, booted.api, trial.base.baseline)
            evidence.smoke += verdicts
            evidence.health = msgspec.structs.replace(booted.health, workflows=runs)
    except boot.BootFailed as failure:
        evidence.boot_error = failure.message
        evidence.boot_log = failure.details
        return failure.boot_exit_code
    evidence.smoke += smoke.command(trial.context, dataclasses.replace(plan, watch=None))
    return None


def _conclude(trial: Trial, seen: Seen) -> None:
    plan, evidence, after, exit_code = seen.plan, seen.evidence, seen.after, seen.exit_code
    evidence.installs = absorbing.all_requests(trial.installs, seen.absorber)
    evidence.install_policy = trial.context.config.policy.runtime_installs
    evidence.unseen = watching.lost(trial.context.home.root / trial.tx.logs.events)
    evidence.sandbox_note = doctor_sandbox.note(plan.sandbox)
    verdicts = gates.judge(evidence)
    failed = gates.blocking(verdicts)
    trial.update(
        status=trial.outcome.failed if failed else trial.outcome.passed,
        ended_at=clock.now(),
        post_freeze=after,
        diff=record.difference(trial.tx.pre_freeze, after),
        gates=verdicts,
        logs=msgspec.structs.replace(trial.tx.logs, run_exit_code=exit_code),
        observed=Observed(
            sandbox=plan.sandbox.name,
            sandbox_holds=plan.sandbox.holds(),
            sandbox_does_not_hold=plan.sandbox.does_not_hold(),
            network=plan.sandbox.network,
            memory_limit=plan.limits.memory_bytes,
            acts=_acts(trial, plan, evidence.installs),
            boot_seconds=evidence.health.boot_seconds if evidence.health else 0.0,
            install_script=_ended(evidence.install_scripts),
            health=evidence.health or Baseline(),
            environment_changes=evidence.environment_changes,
        ),
        error="; ".join(gate.reason for gate in failed),
    )


def _acts(trial: Trial, plan: boot.BootPlan, installs: tuple[InstallRequest, ...]) -> tuple[PackActs, ...]:
    """By pack; what stays in the home and the temporary folder that the trial has for itself is no news."""
    own = [str((plan.work / name).absolute()) + "/" for name in ("tmp", "home")]
    events = watching.read(trial.context.home.root / trial.tx.logs.events)
    return watching.summary(events, installs, own)


def _ended(scripts: dict[str, tuple[int | None, tuple[str, ...]]]) -> str:
    """`exit code 0`, with the pack's name before it where several were run."""
    if len(scripts) < 2:
        return "".join(f"exit code {code}" for code, _ in scripts.values())
    return "; ".join(f"{name}: exit code {code}" for name, (code, _) in scripts.items())
