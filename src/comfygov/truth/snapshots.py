"""Snapshots: immutable copies of the truth, named `NNNN-kind`, and head, which names the one that is production."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import Baseline, Declaration, Head, Pending, Registry, SnapshotKind, SnapshotMeta
from comfygov.ports import clock, faults, fs
from comfygov.truth import store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.truth.home import Home


_ID = re.compile(r"[0-9]+-[a-z_]+")


@dataclass(frozen=True)
class State:
    """All that a snapshot holds: the declared and locked truth, and what a boot of it showed.

    `stored_registry` is plugins.json as the snapshot has it: an older comfygov wrote fewer fields into it."""

    pyproject: bytes
    uv_lock: bytes
    registry: Registry
    baseline: Baseline
    generation: str
    known_commit: str = ""
    stored_registry: bytes = dataclasses.field(default=b"", compare=False)

    @property
    def comfyui_commit(self) -> str:
        """ComfyUI's commit; a stored snapshot says it without its pyproject.toml being parsed."""
        return self.known_commit or self.declared.comfyui.commit

    @cached_property
    def declared(self) -> Declaration:
        from comfygov.truth import declaration

        return declaration.parse(self.pyproject.decode())

    def relocked(self, pyproject: bytes, uv_lock: bytes, generation: str) -> State:
        """The same packs with another declaration, its lock and the environment of that."""
        return dataclasses.replace(self, pyproject=pyproject, uv_lock=uv_lock, generation=generation, known_commit="")

    def truth(self) -> dict[str, bytes]:
        """File name -> content, as in the snapshot directory."""
        return {
            "pyproject.toml": self.pyproject,
            "uv.lock": self.uv_lock,
            "plugins.json": self._registry_bytes(),
        }

    def _registry_bytes(self) -> bytes:
        """As it is stored, while that says the same: what was written once is no edit of anybody's later."""
        if self.stored_registry and msgspec.json.decode(self.stored_registry, type=Registry) == self.registry:
            return self.stored_registry
        return store.encode(self.registry)

    def digest(self) -> str:
        """sha256 over the truth files; the audit line of a commit remembers it."""
        import hashlib

        return hashlib.sha256(b"\0".join(self.truth().values())).hexdigest()


@dataclass(frozen=True)
class Origin:
    """Why a snapshot is made."""

    kind: SnapshotKind
    reason: str = ""
    txid: str | None = None
    node_id: str | None = None
    approved_by: str | None = None


class Snapshots:
    """The snapshots of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def ids(self) -> list[str]:
        """All of them, oldest first."""
        try:
            names = [name for name in os.listdir(self._home.snapshots) if _ID.fullmatch(name)]
        except FileNotFoundError:
            return []
        return sorted(names, key=lambda name: int(name.split("-")[0]))

    def metas(self) -> list[SnapshotMeta]:
        """What each is, oldest first (through `state/snapshots_index.json`)."""
        index = store.Index(self._home.state / "snapshots_index.json", self._home.snapshots, SnapshotMeta)
        return list(index.entries(self._meta_files, self._read_meta).values())

    def _meta_files(self) -> list[tuple[str, str]]:
        return [(name, f"{self._home.snapshots}/{name}/meta.json") for name in self.ids()]

    def _read_meta(self, path: str) -> SnapshotMeta:
        from pathlib import Path

        return store.load(Path(path), SnapshotMeta)

    def resolve(self, text: str) -> str:
        """The id that `text` names: the id itself, its number, or the only id that starts with it."""
        known = self.ids()
        if text in known:
            return text
        if text.isascii() and text.isdigit():
            matches = [name for name in known if int(name.split("-")[0]) == int(text)]
        else:
            matches = [name for name in known if text and name.startswith(text)]
        if len(matches) == 1:
            return matches[0]
        problem = "several snapshots start with" if matches else "there is no snapshot"
        raise GovError(Code.NOT_FOUND, f"{problem} `{text}`", "gov snapshot list")

    def meta(self, snapshot_id: str) -> SnapshotMeta:
        return store.load(self._home.snapshots / snapshot_id / "meta.json", SnapshotMeta)

    def read(self, snapshot_id: str) -> State:
        directory = self._home.snapshots / snapshot_id
        meta = self.meta(snapshot_id)
        baseline = directory / "baseline.json"
        registry = _read(directory / "plugins.json")
        return State(
            pyproject=_read(directory / "pyproject.toml"),
            uv_lock=_read(directory / "uv.lock"),
            registry=store.decode(directory / "plugins.json", registry, Registry),
            baseline=store.load(baseline, Baseline) if baseline.is_file() else Baseline(),
            generation=meta.generation,
            known_commit=meta.comfyui_commit,
            stored_registry=registry,
        )

    def next_ids(self, kinds: Sequence[SnapshotKind]) -> tuple[str, ...]:
        """The ids that the next snapshots of these kinds will have."""
        number = self._next_number()
        return tuple(f"{number + place:04d}-{kind}" for place, kind in enumerate(kinds))

    def _next_number(self) -> int:
        head = self.head()
        return 1 + max([head.numbered if head else 0, *(int(name.split("-")[0]) for name in self.ids())])

    def create(self, state: State, origin: Origin, parent: str | None) -> SnapshotMeta:
        """Stage and rename a new snapshot directory. Head is not touched."""
        number = self._next_number()
        meta = SnapshotMeta(
            id=f"{number:04d}-{origin.kind}",
            number=number,
            kind=origin.kind,
            created_at=clock.now(),
            generation=state.generation,
            comfyui_commit=state.declared.comfyui.commit,
            reason=origin.reason,
            txid=origin.txid,
            parent=parent,
            node_id=origin.node_id,
            approved_by=origin.approved_by,
        )
        directory = self._home.snapshots
        with fs.explained(directory):
            _write_staged(directory, meta.id, {
                **state.truth(), "baseline.json": store.encode(state.baseline), "meta.json": store.encode(meta),
            })  # fmt: skip
        return meta

    def delete(self, snapshot_id: str) -> None:
        fs.remove_tree(self._home.snapshots / snapshot_id)

    def head(self) -> Head | None:
        """None in a home whose init did not finish."""
        if not self._home.head_file.is_file():
            return None
        try:
            head = store.load(self._home.head_file, Head)
        except GovError as error:
            file = self._home.head_file
            if error.code is Code.HOME_DAMAGED:
                error.hint = f"mv {file} {file}.damaged && gov init --path {self._home.root} (by the audit)"
            raise
        store.check_version(self._home.head_file, head.schema_version)
        return head

    def require_head(self) -> Head:
        head = self.head()
        if head is None:
            what = "has lost its state/head.json" if self.ids() else "was never finished: it has no head"
            raise GovError(
                Code.HOME_DAMAGED,
                f"{self._home.root} {what}",
                f"gov init --path {shlex.quote(str(self._home.root))}",
            )
        return head

    def pending(self) -> Pending | None:
        """The commit that was under way when its process died; None when there is none."""
        if not self._home.pending_file.is_file():
            return None
        return store.load(self._home.pending_file, Pending)

    def write_head(self, head: Head) -> None:
        """The commit point."""
        store.save(self._home.head_file, head)
        faults.point("head.written")


def _write_staged(parent: Path, name: str, files: dict[str, bytes]) -> None:
    parent.mkdir(parents=True, exist_ok=True)
    staging = fs.beside(parent / name, "staging")
    fs.remove_tree(staging)
    staging.mkdir()
    try:
        for file_name, data in files.items():
            fs.write_atomic(staging / file_name, data)
        faults.point("snapshot.staged")
        staging.rename(parent / name)
    except BaseException:
        fs.remove_tree(staging)
        raise
    fs.fsync_directory(parent)
    faults.point("snapshot.made")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise GovError(Code.HOME_DAMAGED, f"the snapshot lost its {path.name}", "gov snapshot list") from error
