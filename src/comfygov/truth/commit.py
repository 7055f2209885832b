"""The commit point and what follows it: head is replaced, then the disk is brought to what head says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import AuditEntry, Pending
from comfygov.ports import clock, fs, process
from comfygov.ports.git import Git, recorded_source
from comfygov.truth import audit, checkouts, store

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.state import SnapshotMeta
    from comfygov.truth.home import Home
    from comfygov.truth.snapshots import Snapshots, State


def commit(home: Home, git: Git, snapshots: Snapshots, meta: SnapshotMeta, line: AuditEntry) -> None:
    """Make the existing snapshot `meta` production.

    A kill leaves the old or the new state and a marker; an error goes back to the old one. The caller
    holds the lock, has asked for obstacles, and has the generation and the git objects at hand.
    """
    before = snapshots.head()
    previous = before.snapshot if before else None
    mark(home, meta.id, previous, line)
    with fs.explained(home.head_file):
        snapshots.write_head(meta, previous)
    try:
        materialise(home, git, snapshots.read(meta.id))
    except Exception:
        if before is not None:
            store.save(home.head_file, before)
            materialise(home, git, snapshots.read(before.snapshot))
            home.pending_file.unlink()
        raise
    finish(home, line)


def mark(home: Home, target: str, previous: str | None, line: AuditEntry) -> None:
    pid = os.getpid()
    store.save(
        home.pending_file,
        Pending(pid, process.started_at(pid) or 0.0, line.command, clock.now(), target, previous, line),
    )


def finish(home: Home, line: AuditEntry) -> None:
    """The audit line, and the marker goes. Without space for the line the marker stays for the next command."""
    try:
        audit.append(home.audit_file, line)
    except OSError as error:
        raise GovError(
            Code.DISK_FULL,
            f"the change is committed, but its audit line could not be written: {error.strerror}",
            "free space; the next command that changes anything writes it",
        ) from error
    home.pending_file.unlink()


def finish_pending(home: Home, git: Git, snapshots: Snapshots) -> str | None:
    """Finish what a dead command began; the lock is held. Returns a line to say, or None."""
    found = snapshots.pending()
    if found is None:
        return None
    head = snapshots.head()
    if head is None:
        home.pending_file.unlink()
        return None
    materialise(home, git, snapshots.read(head.snapshot))
    if head.snapshot == found.target:
        finish(home, found.audit)
        return f"finished what `{found.command}` began: production is {head.snapshot}"
    home.pending_file.unlink()
    snapshots.delete(found.target)  # it was never production
    return f"`{found.command}` ended before it committed: production is still {head.snapshot}"


def materialise(home: Home, git: Git, state: State) -> None:
    """Bring truth files, code, links and the model paths to `state`. Every step can be done again."""
    with fs.explained(home.root):
        for name, data in state.truth().items():
            fs.write_if_changed(home.truth_path(name), data)
        rescue = home.state / "rescued" / clock.now().replace(":", "")
        moved = [
            checkouts.bring(git, checkout, recorded_source(source), commit_id, rescue)
            for _, checkout, source, commit_id in checkouts.targets(home, state)
        ]
        if any(moved):
            fs.flush_file_system(home.comfyui)
        fs.flip_link(home.production_link, _link_text(home.production_link, home.venvs / state.generation))
        if home.production_link != home.activate_link:
            fs.flip_link(home.activate_link, _link_text(home.activate_link, home.production_link))
        write_model_paths(home)


def _link_text(link: Path, target: Path) -> str:
    """Relative inside one home, so that the home can be moved; absolute from elsewhere."""
    return str(target.relative_to(link.parent)) if target.is_relative_to(link.parent) else str(target)


MODEL_FOLDERS = (
    *("audio_encoders", "checkpoints", "clip", "clip_vision", "configs", "controlnet", "diffusers"),
    *("diffusion_models", "embeddings", "gligen", "hypernetworks", "loras", "model_patches", "photomaker"),
    *("style_models", "text_encoders", "unet", "upscale_models", "vae", "vae_approx"),
)


def model_paths_text(name: str, models: Path, *, is_default: bool) -> str:
    """A section of extra_model_paths.yaml: every kind of model that ComfyUI knows, below `models`."""
    lines = [
        "# Written by comfygov: ComfyUI finds model files through this.",
        f"{name}:",
        f"  base_path: {msgspec.json.encode(str(models)).decode()}",
        *(["  is_default: true"] if is_default else []),
    ]
    return "\n".join([*lines, *(f"  {folder}: {folder}" for folder in MODEL_FOLDERS)]) + "\n"


def write_model_paths(home: Home) -> None:
    for name in MODEL_FOLDERS:
        (home.models / name).mkdir(parents=True, exist_ok=True)
    fs.write_if_changed(home.model_paths_file, model_paths_text("comfygov", home.models, is_default=True).encode())
