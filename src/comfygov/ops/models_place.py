"""What every command about models works with: the models folder, its spec, the store, and who asks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.model.config import Policy
from comfygov.models import spec
from comfygov.models.crew import Stop
from comfygov.models.folders import Folders, files_of_arguments, read_extra_paths
from comfygov.models.hashing import Memory
from comfygov.models.store import BlobStore
from comfygov.models.verify import Look
from comfygov.truth.home import cache_root

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from comfygov.model.models import ModelEntry
    from comfygov.models.fetch import Fetcher
    from comfygov.models.meter import Meter
    from comfygov.ops.models_gc import ModelsGcResult
    from comfygov.ports.progress import Progress

SPEC_NAME = "spec.yml"
CONNECTIONS = 16


@dataclass(frozen=True)
class Asked:
    """What the options say. With a models folder and no home, no home is needed."""

    home: str | None = None
    models_dir: str | None = None
    spec: str | None = None
    lock: str | None = None
    jobs: int | None = None


@dataclass
class Place:
    """One command at work on one models folder. `home` is None where no home was asked for."""

    folders: Folders
    spec_path: Path
    is_lock: bool
    home: Path | None
    policy: Policy
    command: str
    progress: Progress
    jobs: int | None = None
    stop: Stop = field(default_factory=Stop)

    @cached_property
    def memory(self) -> Memory:
        return Memory(cache_root() / "models" / "hashes.json")

    @cached_property
    def store(self) -> BlobStore:
        return BlobStore(cache_root() / "models", self.memory)

    @property
    def is_strict(self) -> bool:
        return self.policy.model_formats == "strict"

    def entries(self) -> tuple[ModelEntry, ...]:
        return spec.read(self.spec_path, self.folders.models_dir, self.home)

    def spec_held(self) -> AbstractContextManager[None]:
        """Alone with the spec: read it again inside, change it, and nobody's entry is lost."""
        import hashlib

        key = hashlib.sha256(str(self.spec_path.resolve()).encode()).hexdigest()
        return self.store.held(f"spec-{key[:20]}", self.command, self.stop.check)

    def target_held(self, target_path: str) -> AbstractContextManager[None]:
        """Alone with one place for a model, until it is in the spec too."""
        import hashlib

        key = hashlib.sha256(str(self.folders.target(target_path)).encode()).hexdigest()
        return self.store.held(f"target-{key[:20]}", self.command, self.stop.check)

    def look(self) -> Look:
        threads = self.jobs or os.cpu_count() or 1
        return Look(self.folders, self.memory, self.stop, self.progress, threads)

    def fetcher(self, meter: Meter, files: int) -> Fetcher:
        """Its connections are few for each file when there are many files."""
        from comfygov.models.access import Access
        from comfygov.models.fetch import Fetcher
        from comfygov.models.transfer import Policy as TransferPolicy
        from comfygov.ports.http import Http

        client = Http(connections=CONNECTIONS)
        self.stop = Stop(client.abort)
        policy = TransferPolicy(connections=max(1, min(4, CONNECTIONS // max(1, files))))
        access = Access(client)
        return Fetcher(self.store, access, policy, meter, self.stop, self.progress, self.command, self.spec_path.parent)


def open_place(asked: Asked, command: str, progress: Progress) -> Place:
    """Raises `not_a_home`, `bad_config`, `usage`."""
    if asked.spec and asked.lock:
        raise GovError(Code.USAGE, "--spec and --lock were given", "give one of them")
    if asked.models_dir and not asked.home:
        folders = Folders(_absolute(asked.models_dir))
        home, policy = None, Policy()
    else:
        folders, home, policy = _of_home(asked, command, progress)
    if folders.models_dir.exists() and not folders.models_dir.is_dir():
        raise GovError(Code.NOT_FOUND, f"{folders.models_dir} is no folder", "name the models folder: --models-dir")
    named = asked.spec or asked.lock
    path = _absolute(named) if named else folders.models_dir / SPEC_NAME
    return Place(folders, path, bool(asked.lock), home, policy, command, progress, asked.jobs)


def _of_home(asked: Asked, command: str, progress: Progress) -> tuple[Folders, Path, Policy]:
    from comfygov.ops.context import open_home

    home = open_home(asked.home, command, progress).home
    models_dir = _absolute(asked.models_dir) if asked.models_dir else home.models
    named = files_of_arguments(home.config.run.extra_args)
    extra = read_extra_paths([home.comfyui / name for name in ("extra_model_paths.yaml", *named)])
    return Folders(models_dir, (home.comfyui / "models",), extra), home.root.absolute(), home.config.policy


def _absolute(text: str) -> Path:
    return Path(os.path.normpath(Path(text).expanduser().absolute()))


def collect_garbage(command: str, *, dry_run: bool) -> ModelsGcResult:
    """Of the cache that all homes share: no home is needed."""
    from comfygov.ops.models_gc import collect

    root = cache_root() / "models"
    return collect(BlobStore(root, Memory(root / "hashes.json")), command, dry_run=dry_run)
