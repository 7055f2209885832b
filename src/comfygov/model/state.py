"""What is stored in a home: registry, snapshots, head, the marker of work under way, and the run record.

Readers ignore fields that they do not know; fields are only ever added.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

SCHEMA_VERSION = 1

SnapshotKind = Literal[
    "init",
    "node_add",
    "node_enable",
    "node_disable",
    "remove_pre",
    "remove_post",
    "promote_pre",
    "promote_post",
    "rollback_pre",
    "rollback_post",
    "manual",
]


class Stored(Struct, frozen=True, omit_defaults=False):
    """Base of every stored document."""


class Plugin(Stored, frozen=True):
    """One custom node pack of the registry.

    `promoted` says that the pack went through a trial and a promote, so that its group is part of the
    lock; only then can it be enabled. `source` never holds credentials. `place` is where below custom_nodes
    a pack lies that its user had switched off (`ID.disabled`, `.disabled/ID@VERSION`); empty when it is `id`.
    `archive` is the sha256 (`sha256:…`) of the node registry's archive that `commit` was made of.
    """

    id: str
    source: str
    commit: str
    tree: str
    group: str
    ref: str | None = None
    managed_deps: tuple[str, ...] = ()
    enabled: bool = False
    promoted: bool = False
    added_at: str = ""
    place: str = ""
    archive: str = ""

    @property
    def entry(self) -> str:
        """Where it lies below custom_nodes."""
        return self.place or self.id


class Registry(Stored, frozen=True):
    """`state/plugins.json`, sorted by id."""

    plugins: tuple[Plugin, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def get(self, node_id: str) -> Plugin | None:
        return next((plugin for plugin in self.plugins if plugin.id == node_id), None)

    def with_plugin(self, plugin: Plugin) -> Registry:
        others = tuple(p for p in self.plugins if p.id != plugin.id)
        return Registry(tuple(sorted((*others, plugin), key=lambda p: p.id)))

    def without(self, node_id: str) -> Registry:
        return Registry(tuple(p for p in self.plugins if p.id != node_id))

    def enabled(self) -> tuple[Plugin, ...]:
        return tuple(p for p in self.plugins if p.enabled)


class PackHealth(Stored, frozen=True):
    """How one entry of custom_nodes came up: its classes when it loaded, else the reason."""

    name: str
    loaded: bool
    classes: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0


class WorkflowRun(Stored, frozen=True):
    """What a smoke workflow gave: `outputs` is node id -> kind -> how many, `digest` the sha256 of the workflow."""

    name: str
    digest: str
    outputs: dict[str, dict[str, int]] = field(default_factory=dict)


class Baseline(Stored, frozen=True):
    """What a boot of ComfyUI showed: the measure for every later trial.

    `core_classes` are the node classes of ComfyUI itself, `core_failures` its own modules that did not
    import (for example `nodes_audio.py` without torchaudio).
    """

    comfyui_version: str = ""
    python_version: str = ""
    pytorch_version: str = ""
    boot_seconds: float = 0.0
    core_classes: tuple[str, ...] = ()
    core_failures: tuple[str, ...] = ()
    packs: tuple[PackHealth, ...] = ()
    workflows: tuple[WorkflowRun, ...] = ()

    def pack(self, name: str) -> PackHealth | None:
        return next((pack for pack in self.packs if pack.name == name), None)


class SnapshotMeta(Stored, frozen=True):
    """`snapshots/ID/meta.json`. `generation` names the sealed environment that belongs to the lock."""

    id: str
    number: int
    kind: SnapshotKind
    created_at: str
    generation: str
    comfyui_commit: str
    reason: str = ""
    txid: str | None = None
    parent: str | None = None
    node_id: str | None = None
    approved_by: str | None = None
    schema_version: int = SCHEMA_VERSION


class Head(Stored, frozen=True):
    """`state/head.json`: replacing this file is the only commit point. `audit` is the digest of the last
    audit line, empty in homes that were made before it was remembered; `numbered` is the highest number that
    a snapshot ever had, so that none is given twice."""

    snapshot: str
    generation: str
    written_at: str
    previous: str | None = None
    audit: str = ""
    numbered: int = 0
    schema_version: int = SCHEMA_VERSION


class Pending(Stored, frozen=True):
    """`state/materialising.json`: a commit is under way. `audit` is written when it is finished; `made` are
    the snapshots that it makes, which go again when head was not written."""

    pid: int
    pid_started: float
    command: str
    since: str
    target: str
    previous: str | None
    audit: AuditEntry
    made: tuple[str, ...] = ()


class AuditEntry(Stored, frozen=True):
    """One line of `state/audit.jsonl`. `previous` and `digest` chain the lines (sha256); `state` is the
    sha256 of the truth files of the snapshot `after`."""

    at: str
    actor: str
    host: str
    command: str
    action: str
    before: str | None
    after: str | None
    reason: str = ""
    approved: tuple[str, ...] = ()
    txid: str | None = None
    previous: str = ""
    digest: str = ""
    state: str = ""


class LockHolder(Stored, frozen=True):
    """Who holds the home's lock."""

    pid: int
    command: str
    since: str


class RunRecord(Stored, frozen=True):
    """`state/run.json`: the production ComfyUI. `pid_started` (ticks since boot, or since the epoch in
    older records) tells the process from a later one with the same number; `run_id` marks every process
    that it started. A `pid` of 0 says that it is being started."""

    pid: int
    pid_started: float
    run_id: str
    snapshot: str
    generation: str
    host: str
    port: int
    log: str
    args: tuple[str, ...] = ()
    detached: bool = False
    started_at: str = ""
    home: str = ""


class ComfyUIPin(Stored, frozen=True):
    """Where ComfyUI comes from and at what commit it is. `repo` is the tree's own path when it has no origin."""

    repo: str
    ref: str | None
    commit: str


class Resolution(Stored, frozen=True):
    """What `gov resolve` added: a pin, or with `forced` a version that goes against what packs ask for.

    It goes when the last of `owners` (pack ids; `ComfyUI` and `packages` stay) is removed.
    """

    requirement: str
    forced: bool = False
    reason: str = ""
    txid: str = ""
    owners: tuple[str, ...] = ()


class Declaration(Stored, frozen=True):
    """All that `pyproject.toml` declares; the file is a pure rendering of this.

    `exclude_newer` is a time (RFC 3339): the index is seen as it was then. With `torch_backends` the lock carries
    all of these builds of torch, as extras that exclude each other, and `torch_backend` is the one that is chosen
    (empty in a version: each clone chooses).
    """

    comfyui: ComfyUIPin
    requires_python: str
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    exclude: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    index_url: str = ""
    torch_backend: str = ""
    torch_backends: tuple[str, ...] = ()
    source_builds: bool = False
    exclude_newer: str = ""
