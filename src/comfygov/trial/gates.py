"""The checks on a trial: each looks at evidence and says pass, warn or fail with a reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from comfygov.model.known_bad import DATED
from comfygov.model.tx import Difference, Gate, InstallRequest, Verdict
from comfygov.trial import denying

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from comfygov.model.state import Baseline, PackHealth, Registry


@dataclass
class Evidence:
    """What the trial left behind for the gates.

    `packs` are the packs on trial and their sources. `boot_error` is empty when ComfyUI became ready;
    `torch_misfit` is what does not fit and the pins that mend it; `misfits` what packs say of themselves that
    is not so here; `install_scripts` the exit code and last lines of each; `overlaps` says of which packages that
    overwrite each other one is kept; `forced` are versions forced against what packs ask for. `versions` are all
    packages of the candidate, `findings` and `undeclared` what reading the packs found, `policy` what counts as what
    ([policy.gates]).
    """

    packs: tuple[tuple[str, str], ...]
    moves_comfyui: bool
    torch_misfit: tuple[str, tuple[str, ...]] | None
    packages: Difference
    core_impact: Difference
    baseline: Baseline
    registry: Registry
    deny: tuple[str, ...]
    misfits: tuple[tuple[Verdict, str], ...] = ()
    local_edits: tuple[str, ...] = ()
    boot_error: str = ""
    boot_log: tuple[str, ...] = ()
    health: Baseline | None = None
    install_scripts: dict[str, tuple[int | None, tuple[str, ...]]] = field(default_factory=dict)
    overlaps: tuple[tuple[Verdict, str], ...] = ()
    forced: tuple[str, ...] = ()
    environment_changes: Difference = field(default_factory=Difference)
    smoke: list[Gate] = field(default_factory=list)
    installs: tuple[InstallRequest, ...] = ()
    install_policy: str = "block"
    sandbox_note: str = ""
    unseen: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    undeclared: tuple[str, ...] = ()
    policy: dict[str, Literal["warn", "fail"]] = field(default_factory=dict)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.packs)

    def of(self, node_id: str) -> str:
        """What a reason begins with: which pack it is about, where there are several."""
        return f"{node_id}: " if len(self.packs) > 1 else ""


def judge(evidence: Evidence) -> tuple[Gate, ...]:
    """All gates, in the order in which they are shown."""
    return tuple(_weighed(gate, evidence.policy) for check in _CHECKS for gate in check(evidence))


def _weighed(gate: Gate, policy: dict[str, Literal["warn", "fail"]]) -> Gate:
    """The gate with the verdict that the home's policy gives it when it does not pass."""
    counts_as = policy.get(gate.name, gate.verdict)
    if gate.verdict not in ("warn", "fail") or counts_as == gate.verdict:
        return gate
    return Gate(gate.name, counts_as, f"{gate.reason} ([policy.gates])", gate.evidence)


def blocking(gates: tuple[Gate, ...]) -> list[Gate]:
    return [gate for gate in gates if gate.verdict == "fail"]


def denied(evidence: Evidence) -> tuple[str, ...]:
    """Why nothing of this may run, a line for each reason; empty when it may."""
    new = frozenset(package.name for package in evidence.packages.added)
    found = (*denying.packs(evidence.packs, evidence.deny), *denying.packages(evidence.versions, new, evidence.deny))
    return tuple(dict.fromkeys(found))


def _denied(evidence: Evidence) -> Iterator[Gate]:
    if hits := denied(evidence):
        yield Gate("deny_list", "fail", f"known to do harm (list of {DATED}), or named by policy.deny", hits)
    else:
        yield Gate("deny_list", "pass", f"nothing of it is on the deny list (of {DATED})")


def _static_findings(evidence: Evidence) -> Iterator[Gate]:
    if evidence.findings:
        yield Gate("static_findings", "warn", "its code has what a careful reader would stop at", evidence.findings)
    elif evidence.packs:
        yield Gate("static_findings", "pass", "nothing in its code looks hidden or hostile")


def _declared_requirements(evidence: Evidence) -> Iterator[Gate]:
    if evidence.undeclared:
        yield Gate("declared_requirements", "warn", "it imports what it does not declare", evidence.undeclared)
    elif evidence.packs:
        yield Gate("declared_requirements", "pass", "it declares what it imports")


def _declared_fit(evidence: Evidence) -> Iterator[Gate]:
    for verdict, reason in evidence.misfits:
        yield Gate("declared_fit", verdict, reason)
    if not evidence.misfits:
        yield Gate("declared_fit", "pass", "nothing that it says of itself excludes this machine")


def _local_edits(evidence: Evidence) -> Iterator[Gate]:
    if evidence.local_edits:
        reason = "production has edited files, which the trial did not see: it ran the commits"
        yield Gate("local_edits", "warn", reason, evidence.local_edits)


def _resolves(_: Evidence) -> Iterator[Gate]:
    yield Gate("resolves", "pass", "one environment holds every pack's requirements")


def _core_packages(evidence: Evidence) -> Iterator[Gate]:
    if evidence.core_impact.empty():
        yield Gate("core_packages", "pass", "no core package changes")
    else:
        lines = tuple(evidence.core_impact.lines())
        yield Gate("core_packages", "warn", "core packages change: promote needs --approve-core", lines)


def _torch(evidence: Evidence) -> Iterator[Gate]:
    if evidence.torch_misfit:
        yield Gate("torch_family", "fail", *evidence.torch_misfit)
    else:
        yield Gate("torch_family", "pass", "torch, torchvision and torchaudio fit each other")


def _overlapping(evidence: Evidence) -> Iterator[Gate]:
    for verdict, note in evidence.overlaps:
        yield Gate("overlapping_packages", verdict, note)


def _forced(evidence: Evidence) -> Iterator[Gate]:
    if evidence.forced:
        yield Gate("overrides", "warn", "versions are forced against what packs ask for", evidence.forced)


def _install_scripts(evidence: Evidence) -> Iterator[Gate]:
    for name, (exit_code, lines) in evidence.install_scripts.items():
        if exit_code == 0:
            yield Gate("install_script", "pass", f"{evidence.of(name)}install.py ended well")
        else:
            how = "did not end in time" if exit_code is None else f"failed with exit code {exit_code}"
            yield Gate("install_script", "fail", f"{evidence.of(name)}install.py {how}", lines)


def _boots(evidence: Evidence) -> Iterator[Gate]:
    if evidence.health is None:
        yield Gate("boots", "fail", evidence.boot_error or "ComfyUI was not started", evidence.boot_log)
    else:
        yield Gate("boots", "pass", f"ComfyUI answers after {evidence.health.boot_seconds:.1f} s")


def _packs_load(evidence: Evidence) -> Iterator[Gate]:
    for name, _ in evidence.packs:
        if evidence.health is None:
            yield Gate("pack_loads", "skip", "ComfyUI did not start")
        else:
            yield _pack_loads(evidence.health.pack(name), evidence.of(name))


def _pack_loads(pack: PackHealth | None, prefix: str) -> Gate:
    if pack is None:
        return Gate("pack_loads", "fail", f"{prefix}ComfyUI did not try to load it: it is no node pack")
    if not pack.loaded:
        return Gate("pack_loads", "fail", f"{prefix}it does not import: {pack.reason}", _missing_module(pack.reason))
    if pack.classes:
        reason = f"{prefix}it registers {_classes(len(pack.classes))}"
        return Gate("pack_loads", "pass", reason, pack.classes[:50])
    return Gate("pack_loads", "pass", f"{prefix}it loads and registers no node classes (a web-only pack)")


def _classes(count: int) -> str:
    return f"{count} node class" if count == 1 else f"{count} node classes"


def _missing_module(reason: str) -> tuple[str, ...]:
    match = re.search(r"No module named '([^']+)'", reason)
    return (f"neither the pack nor what it declares has `{match[1]}`",) if match else ()


def _nothing_broken(evidence: Evidence) -> Iterator[Gate]:
    if evidence.health is None:
        yield Gate("nothing_broken", "skip", "ComfyUI did not start")
        return
    lines = tuple(broken(evidence.baseline, evidence.health, evidence.registry, evidence.ids))
    gone = tuple(gone_from_comfyui(evidence.baseline, evidence.health))
    if gone and evidence.moves_comfyui:
        yield Gate("comfyui_classes", "warn", "this ComfyUI no longer has what the one before had", gone)
    else:
        lines = (*gone, *lines)
    if lines:
        yield Gate("nothing_broken", "fail", "what worked before does not work with this change", lines)
    else:
        yield Gate("nothing_broken", "pass", "everything that worked before still works")


def gone_from_comfyui(baseline: Baseline, now: Baseline) -> Iterator[str]:
    for name in sorted(set(baseline.core_classes) - set(now.core_classes)):
        yield f"ComfyUI's own class {name} is gone"


def broken(baseline: Baseline, now: Baseline, registry: Registry, changed: Collection[str]) -> Iterator[str]:
    """What the baseline had and `now` has not; classes of the changed packs themselves may go."""
    for file in sorted(set(now.core_failures) - set(baseline.core_failures)):
        yield f"ComfyUI's own {file} does not import any more"
    expected = {plugin.id for plugin in registry.enabled()}
    for before in baseline.packs:
        if not before.loaded or before.name in changed or before.name not in expected:
            continue
        after = now.pack(before.name)
        if after is None or not after.loaded:
            yield f"{before.name} does not load any more: {after.reason if after else 'ComfyUI does not list it'}"
            continue
        for name in sorted(set(before.classes) - set(after.classes)):
            yield f"{before.name}: class {name} is gone"


def _runtime_installs(evidence: Evidence) -> Iterator[Gate]:
    """Every install that a pack asked for is in the plan, or was refused; none went past us."""
    if not evidence.environment_changes.empty():
        lines = tuple(evidence.environment_changes.lines())
        yield Gate("runtime_installs", "fail", "packages changed while it started, outside of the plan", lines)
        return
    absorbed = tuple(_request(r) for r in evidence.installs if r.answer == "absorbed")
    denied = [request for request in evidence.installs if request.answer == "refused"]
    # A pack that is in production already is refused there too: this change did not make it so.
    others = [request for request in denied if request.pack and request.pack not in evidence.ids]
    refused = tuple(f"{_request(request)}: {request.reason}" for request in denied if request not in others)
    if others:
        lines = tuple(f"{_request(request)}: {request.reason}" for request in others)
        yield Gate("runtime_installs", "warn", "packs that are not on trial asked for installs and got none", lines)
    if refused:
        verdict: Verdict = "fail" if evidence.install_policy == "block" else "warn"
        yield Gate("runtime_installs", verdict, "installs while it started were refused", refused)
    if absorbed:
        reason = "absorbed: what it installs while it starts is part of what it declares now"
        yield Gate("runtime_installs", "warn", reason, absorbed)
    if not denied and not absorbed:
        satisfied = " that was not there already" if evidence.installs else ""
        yield Gate("runtime_installs", "pass", f"nothing{satisfied} was installed while it started")


def _request(request: InstallRequest) -> str:
    return f"{request.pack or 'unknown'}: {request.form} {request.command} {' '.join(request.requirements)}".rstrip()


def _sandbox(evidence: Evidence) -> Iterator[Gate]:
    if evidence.sandbox_note:
        yield Gate("sandbox", "warn", evidence.sandbox_note)


def _observation(evidence: Evidence) -> Iterator[Gate]:
    if evidence.unseen:
        yield Gate("observation", "warn", "more was done than the log of events holds", evidence.unseen)


def _smoke(evidence: Evidence) -> Iterator[Gate]:
    yield from evidence.smoke


_CHECKS = (
    _denied,
    _static_findings,
    _declared_requirements,
    _declared_fit,
    _local_edits,
    _resolves,
    _core_packages,
    _torch,
    _overlapping,
    _forced,
    _install_scripts,
    _boots,
    _packs_load,
    _nothing_broken,
    _runtime_installs,
    _sandbox,
    _observation,
    _smoke,
)
