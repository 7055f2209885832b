"""A transaction: one proposed change, from its plan through its trial to promoted or aborted."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from comfygov.model.state import Baseline, Stored

Status = Literal[
    "running",
    "completed",
    "failed",
    "needs_resolution",
    "resolved",
    "promoted",
    "promote_failed",
    "aborted",
]
Kind = Literal["node_first_run", "node_update", "comfyui_update", "dependency_change"]
Verdict = Literal["pass", "warn", "fail", "skip"]

# Every check on a trial, in the order in which they are shown.
GATES = (
    *(
        "deny_list",
        "static_findings",
        "declared_requirements",
        "declared_fit",
        "local_edits",
        "resolves",
        "core_packages",
    ),
    *("torch_family", "overlapping_packages", "overrides", "install_script", "boots", "pack_loads", "comfyui_classes"),
    *("nothing_broken", "runtime_installs", "sandbox", "observation", "smoke_workflow", "smoke_test_cmd"),
)

PENDING: tuple[Status, ...] = (
    "running",
    "completed",
    "failed",
    "needs_resolution",
    "resolved",
    "promote_failed",
)


class PackageVersion(Stored, frozen=True):
    name: str
    version: str


class PackageChange(Stored, frozen=True):
    name: str
    before: str
    after: str


class Difference(Stored, frozen=True):
    """What a change does to the packages of production."""

    added: tuple[PackageVersion, ...] = ()
    removed: tuple[PackageVersion, ...] = ()
    changed: tuple[PackageChange, ...] = ()

    def empty(self) -> bool:
        return not (self.added or self.removed or self.changed)

    def lines(self) -> list[str]:
        """`+ name version`, `- name version`, `~ name before -> after`: also what an approval binds to."""
        return [
            *(f"+ {p.name} {p.version}" for p in self.added),
            *(f"- {p.name} {p.version}" for p in self.removed),
            *(f"~ {c.name} {c.before} -> {c.after}" for c in self.changed),
        ]


class Rejected(Stored, frozen=True):
    """A requirement line that was not taken, and why."""

    file: str
    line: int
    text: str
    reason: str


class Gate(Stored, frozen=True):
    """One check, its verdict and the reason; `evidence` are the lines that show it."""

    name: str
    verdict: Verdict
    reason: str
    evidence: tuple[str, ...] = ()


class Logs(Stored, frozen=True):
    """Paths relative to the home. `run_exit_code` is None when we stopped a ComfyUI that was serving."""

    stdout: str = ""
    stderr: str = ""
    run_exit_code: int | None = None
    events: str = ""


class InstallRequest(Stored, frozen=True):
    """An install that a pack asked for while it ran. `form` is the installer (pip, uv, conda, …), `answer` is
    `absorbed` (installed, and declared for the pack from now on), `satisfied` or `refused`, for `reason`."""

    pack: str
    form: str
    command: str = ""
    requirements: tuple[str, ...] = ()
    argv: str = ""
    target: str = ""
    answer: str = ""
    reason: str = ""


class PackActs(Stored, frozen=True):
    """What one pack did besides registering nodes: at most fifty of each kind are named, `counts` says how many
    there were. Files are those outside of the pack's folder and of the trial's scratch space, connections those
    that leave the machine; an act that the sandbox stopped is there too. `weight` orders packs."""

    pack: str
    installs: tuple[InstallRequest, ...] = ()
    processes: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    weight: int = 0


class Observed(Stored, frozen=True):
    """What the trial saw. `sandbox_holds` and `sandbox_does_not_hold` say in words what the packs could not and
    could do; `memory_limit` is in bytes, 0 is none."""

    sandbox: str = "none"
    boot_seconds: float = 0.0
    install_script: str = ""
    health: Baseline = field(default_factory=Baseline)
    environment_changes: Difference = field(default_factory=Difference)
    sandbox_holds: tuple[str, ...] = ()
    sandbox_does_not_hold: tuple[str, ...] = ()
    network: str = ""
    memory_limit: int = 0
    acts: tuple[PackActs, ...] = ()


class NodeMove(Stored, frozen=True):
    """A pack on trial. `before` is the promoted commit, None when there is none; `declared` what it asks for;
    `enables` says that it was disabled: it is loaded again with the promote."""

    id: str
    before: str | None
    after: str
    ref: str | None = None
    declared: tuple[str, ...] = ()
    enables: bool = False


class CodeMove(Stored, frozen=True):
    """ComfyUI itself on trial: from one commit to another of the same repository."""

    repo: str
    before: str
    after: str
    ref: str | None = None


class Override(Stored, frozen=True):
    """A version that is forced against what packs ask for, and why."""

    requirement: str
    reason: str


class PromotionPlan(Stored, frozen=True):
    """What promote would do. `state_digest` covers lock, node commits and ComfyUI commit as tried."""

    base_snapshot: str
    generation: str
    state_digest: str
    node_commit_before: str | None
    node_commit_after: str | None
    packages: Difference = field(default_factory=Difference)
    needs_core_approval: bool = False


class Promotion(Stored, frozen=True):
    status: Literal["", "promoted", "failed"] = ""
    reason: str = ""
    approved_by: str | None = None
    approved_changes: tuple[str, ...] = ()
    snapshot_pre: str | None = None
    snapshot_post: str | None = None
    error: str = ""


class Transaction(Stored, frozen=True):
    """`state/transactions/TXID.json`.

    A change of one pack names it in `node_id`; one of ComfyUI alone says `ComfyUI`, one of packages alone
    `packages`. `nodes`, `comfyui`, `dependencies`, `dropped` and `upgrades` say all of what is to change,
    `resolution_pins` and `overrides` what was added to make it fit. `source_commit` and `source_ref` are those
    of the first pack. While a promote repeats the trial, `earlier` is the record as it was: it comes back when the
    repetition does not come to a verdict.
    """

    txid: str
    node_id: str
    kind: Kind
    status: Status
    started_at: str
    base_snapshot: str
    ended_at: str | None = None
    source_commit: str = ""
    source_ref: str | None = None
    candidate_env: str | None = None
    pre_freeze: tuple[str, ...] = ()
    post_freeze: tuple[str, ...] = ()
    diff: Difference = field(default_factory=Difference)
    core_impact: Difference = field(default_factory=Difference)
    declared: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    observed: Observed = field(default_factory=Observed)
    gates: tuple[Gate, ...] = ()
    logs: Logs = field(default_factory=Logs)
    conflict_report: str | None = None
    resolution_pins: tuple[str, ...] = ()
    promotion_plan: PromotionPlan | None = None
    promotion: Promotion = field(default_factory=Promotion)
    error: str = ""
    owner_pid: int = 0
    owner_started: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    timeout_seconds: float | None = None
    nodes: tuple[NodeMove, ...] = ()
    comfyui: CodeMove | None = None
    dependencies: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    upgrades: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    earlier: Transaction | None = None
    schema_version: int = 1

    def moves(self) -> tuple[NodeMove, ...]:
        """The packs on trial; records of older versions name one in other fields."""
        if self.nodes or not self.source_commit:
            return self.nodes
        return (NodeMove(self.node_id, None, self.source_commit, self.source_ref, self.declared),)


class TxSummary(Stored, frozen=True):
    """What lists and counts need of a transaction."""

    txid: str
    node_id: str
    kind: Kind
    status: Status
    started_at: str
    base_snapshot: str = ""
    ended_at: str | None = None
    owner_pid: int = 0
    owner_started: float = 0.0


Form = Literal[
    "two_packs",
    "one_pack",
    "comfyui",
    "core_packages",
    "own_wishes",
    "requires_python",
    "missing_package",
    "missing_version",
    "missing_file",
    "no_wheel",
    "malformed",
    "no_solution",
    "unknown",
]


class ConflictSide(Stored, frozen=True):
    """One line of a conflict: `who` asks for `line`, written in `where`. `admits_production` says whether the
    version that production has is fine with it (None where the line is about another package)."""

    who: str
    line: str
    where: str = ""
    on_trial: bool = False
    admits_production: bool | None = None


Strategy = Literal["update_other", "older_release", "loosen_settings", "keep_production", "newest_that_fits"]


class Suggestion(Stored, frozen=True):
    """A way out that was tried with the resolver. `cost` says in words what it takes; `violated` are the lines
    that a forced version goes against."""

    strategy: Strategy
    title: str
    command: str
    works: bool
    forced: bool = False
    cost: tuple[str, ...] = ()
    violated: tuple[str, ...] = ()
    difference: Difference = field(default_factory=Difference)
    core_impact: Difference = field(default_factory=Difference)


class ConflictReport(Stored, frozen=True):
    """`state/conflicts/TXID.json`: why no environment holds the change.

    `sides` are the fewest lines that have no solution together; `verified` says that the resolver confirmed
    it: they fail alone, and leaving any one of them out gives a solution. `package` is what they disagree
    about, as far as that is understood, `production_version` what production has of it. `reasons` are the
    resolver's words about just these lines, `uv_text` its words about the whole.
    """

    txid: str
    form: Form
    summary: str
    groups: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    uv_text: str = ""
    sides: tuple[ConflictSide, ...] = ()
    verified: bool = False
    package: str = ""
    production_version: str = ""
    dependents: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    resolver_calls: int = 0
    seconds: float = 0.0
    suggestions: tuple[Suggestion, ...] = ()
