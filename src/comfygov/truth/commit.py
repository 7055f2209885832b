"""The commit point and what follows it: head is replaced, then the disk is brought to what head says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import AuditEntry, Head, Pending
from comfygov.ports import clock, faults, fs, identity
from comfygov.ports.git import Git, recorded_source
from comfygov.truth import audit, checkouts, rescue, store

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import SnapshotMeta
    from comfygov.truth.home import Home
    from comfygov.truth.snapshots import Origin, Snapshots, State


@dataclass(frozen=True)
class Committed:
    """`pre` is the snapshot of what production was, when one was asked for."""

    meta: SnapshotMeta
    pre: SnapshotMeta | None


@dataclass(frozen=True)
class Truth:
    """What a commit works on: one home, its snapshots, and git."""

    home: Home
    git: Git
    snapshots: Snapshots


def commit(truth: Truth, state: State, origin: Origin, line: AuditEntry, before: Origin | None = None) -> Committed:
    """Make `state` production by a new snapshot, after another (`before`) of what production is now.

    A kill leaves the old or the new state and a marker; an error goes back to the old one. The caller
    holds the lock, has asked for obstacles, and has the generation and the git objects at hand.
    """
    _refuse_other_than_links(truth.home)
    head = truth.snapshots.head()
    parent = head.snapshot if head else None
    ids = truth.snapshots.next_ids([origin.kind] if before is None else [before.kind, origin.kind])
    line = msgspec.structs.replace(line, before=parent, after=ids[-1], state=state.digest())
    line = _mark(truth, line, ids)
    try:
        pre = None
        if before is not None and parent is not None:
            pre = truth.snapshots.create(truth.snapshots.read(parent), before, parent)
        meta = truth.snapshots.create(state, origin, parent)
        truth.snapshots.write_head(Head(meta.id, meta.generation, clock.now(), parent, line.digest, meta.number))
        materialise(truth.home, truth.git, state)
    except BaseException as error:
        _go_back(truth, head, ids, error, state)
        raise
    _finish(truth.home, line)
    return Committed(meta, pre)


def record(truth: Truth, line: AuditEntry, *, make: Origin | None = None, repair: State | None = None) -> str:
    """Write down what does not move production: a further snapshot of it, a repair of the disk, or neither.

    Returns the id of the snapshot that it is about.
    """
    if repair is not None:
        _refuse_other_than_links(truth.home)
    head = truth.snapshots.require_head()
    ids = truth.snapshots.next_ids([make.kind]) if make else ()
    state = truth.snapshots.read(head.snapshot)
    line = msgspec.structs.replace(line, before=head.snapshot, after=(*ids, head.snapshot)[0], state=state.digest())
    line = _mark(truth, line, ids)
    try:
        if make is not None:
            truth.snapshots.create(state, make, head.snapshot)
        numbered = int(ids[-1].split("-")[0]) if ids else head.numbered
        truth.snapshots.write_head(msgspec.structs.replace(head, audit=line.digest, numbered=numbered))
        if repair is not None:
            materialise(truth.home, truth.git, repair)
    except BaseException as error:
        _go_back(truth, head, ids, error)
        raise
    _finish(truth.home, line)
    return line.after or head.snapshot


def _refuse_other_than_links(home: Home) -> None:
    """Before anything is marked: what stands in the place of our links would stop the work in the middle."""
    for link in (home.production_link, home.activate_link):
        fs.refuse_other_than_link(link)


def _mark(truth: Truth, line: AuditEntry, made: tuple[str, ...]) -> AuditEntry:
    """Write down what is about to happen; returns the audit line as it will stand in the chain."""
    line = _in_chain(truth, line)
    pid, now = os.getpid(), clock.now()
    started = identity.started_at(pid) or 0.0
    store.save(
        truth.home.pending_file,
        Pending(pid, started, line.command, now, line.after or "", line.before, line, made),
    )
    faults.point("commit.marked")
    return line


def _in_chain(truth: Truth, line: AuditEntry) -> AuditEntry:
    return audit.chained(line, audit.last_digest(truth.home.audit_file, truth.snapshots.head()))


def _go_back(
    truth: Truth, head: Head | None, made: tuple[str, ...], error: BaseException, failed: State | None = None
) -> None:
    """Undo a commit that met an error: head as it was, the disk as head says, and nothing of it left.

    An interrupt behind the commit point undoes nothing: the state is there, with its marker, for the next
    command to finish; so does a first state, which has nothing to go back to.
    """
    if truth.snapshots.head() != head:
        if head is None or not isinstance(error, Exception):
            return
        truth.snapshots.write_head(head)
        materialise(truth.home, truth.git, truth.snapshots.read(head.snapshot), failed)
    _forget(truth, made)


def _forget(truth: Truth, made: tuple[str, ...]) -> None:
    for name in made:
        truth.snapshots.delete(name)
    truth.home.pending_file.unlink()


def _finish(home: Home, line: AuditEntry) -> None:
    """The audit line, and the marker goes. Without space for the line the marker stays for the next command."""
    faults.point("commit.materialised")
    try:
        audit.append(home.audit_file, line)
    except OSError as error:
        raise GovError(
            Code.DISK_FULL,
            f"the change is committed, but its audit line could not be written: {error.strerror}",
            "free space; the next command that changes anything writes it",
        ) from error
    faults.point("commit.recorded")
    home.pending_file.unlink()


def finish_pending(truth: Truth) -> str | None:
    """Finish what a dead command began; the lock is held. Returns a line to say, or None."""
    found = truth.snapshots.pending()
    if found is None:
        return None
    head, aside = truth.snapshots.head(), ""
    if head is not None:
        state, other = truth.snapshots.read(head.snapshot), _other_of(truth, found, head)
        kept = materialise(truth.home, truth.git, state, other)
        aside = f"; what of yours was in the way is in {truth.home.relative(kept)}" if kept else ""
        if head.audit == found.audit.digest if found.audit.digest else head.snapshot == found.target:
            _finish(truth.home, found.audit if found.audit.digest else _in_chain(truth, found.audit))
            return f"finished what `{found.command}` began: production is {head.snapshot}{aside}"
    _forget(truth, found.made if found.audit.digest else (found.target,))
    now = f"{head.snapshot}{aside}" if head else "not there yet"
    return f"`{found.command}` ended before it committed: production is still {now}"


def _other_of(truth: Truth, found: Pending, head: Head) -> State | None:
    """The other end of an interrupted commit, as far as its snapshot is there."""
    other = found.previous if head.snapshot == found.target else found.target
    return truth.snapshots.read(other) if other in truth.snapshots.ids() else None


def materialise(home: Home, git: Git, state: State, other: State | None = None) -> Path | None:
    """Bring truth files, code, links and the model paths to `state`. Every step can be done again.

    `other` is the state that an interrupted or failed commit was to or from. Returns where files of the
    user's were kept aside, if any were.
    """
    with fs.explained(home.root):
        aside = rescue.place(home)
        rescue.keep_hand_edits(home, aside)
        for name, data in state.truth().items():
            fs.write_if_changed(home.truth_path(name), data)
        ends = checkouts.targets(home, other) if other else ()
        others = {checkout: commit_id for _, checkout, _, commit_id in ends}
        moved = [
            checkouts.bring(git, checkout, recorded_source(source), commit_id, aside, others.get(checkout))
            for _, checkout, source, commit_id in checkouts.targets(home, state)
        ]
        if any(moved):
            fs.flush_file_system(home.comfyui)
        fs.flip_link(home.production_link, _link_text(home.production_link, home.venvs / state.generation))
        if home.production_link != home.activate_link:
            fs.flip_link(home.activate_link, _link_text(home.activate_link, home.production_link))
        write_model_paths(home)
    return aside if aside.is_dir() else None


def _link_text(link: Path, target: Path) -> str:
    """Relative inside one home, so that the home can be moved; absolute from elsewhere."""
    return str(target.relative_to(link.parent)) if target.is_relative_to(link.parent) else str(target)


MODEL_FOLDERS = (
    *("audio_encoders", "checkpoints", "clip", "clip_vision", "configs", "controlnet", "diffusers"),
    *("diffusion_models", "embeddings", "gligen", "hypernetworks", "loras", "model_patches", "photomaker"),
    *("style_models", "text_encoders", "unet", "upscale_models", "vae", "vae_approx"),
)


def model_paths_text(name: str, models: Path, *, is_default: bool, folders: tuple[str, ...] = MODEL_FOLDERS) -> str:
    """A section of extra_model_paths.yaml: every kind of model that ComfyUI knows, below `models`."""
    lines = [
        "# Written by comfygov: ComfyUI finds model files through this.",
        f"{name}:",
        f"  base_path: {msgspec.json.encode(str(models)).decode()}",
        *(["  is_default: true"] if is_default else []),
    ]
    return "\n".join([*lines, *(f"  {folder}: {folder}" for folder in folders)]) + "\n"


def write_model_paths(home: Home) -> tuple[str, ...]:
    """The path file, and a folder for every kind of model. Returns those that could not be made: a models disk may be
    read-only or not mounted, ComfyUI does without them, and no commit is stopped for it."""
    missing = []
    for name in MODEL_FOLDERS:
        try:
            (home.models / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            missing.append(name)
    fs.write_if_changed(home.model_paths_file, model_paths_text("comfygov", home.models, is_default=True).encode())
    return tuple(missing)
