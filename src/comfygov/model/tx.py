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


class Observed(Stored, frozen=True):
    """What the trial saw."""

    sandbox: str = "none"
    boot_seconds: float = 0.0
    install_script: str = ""
    health: Baseline = field(default_factory=Baseline)
    environment_changes: Difference = field(default_factory=Difference)


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
    """`state/transactions/TXID.json`. `source_commit` is the commit of the pack that is on trial."""

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
    schema_version: int = 1


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


class ConflictReport(Stored, frozen=True):
    """`state/conflicts/TXID.json`: why no environment holds the change."""

    txid: str
    form: Literal["no_solution", "malformed", "unknown"]
    summary: str
    groups: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    uv_text: str = ""
