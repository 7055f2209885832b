"""The models of a lock in a clone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ports import fs

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.model.version import LockedModel
    from comfygov.ops.context import Context
    from comfygov.ops.version_find import Found
    from comfygov.ports.progress import Progress


def place(context: Context, found: Found, *, skip: bool, offline: bool) -> dict[str, int]:
    """Write the spec, and bring the files unless `skip`; returns counts by status. Raises when one is not right."""
    from comfygov.models import spec_writing
    from comfygov.ops.models_place import SPEC_NAME

    if not found.lock.models:
        return {}
    spec = context.home.models / SPEC_NAME
    spec_writing.append(spec, [msgspec.to_builtins(model) for model in found.lock.models])
    if skip:
        return {"skipped": len(found.lock.models)}
    return _fetch(context, found, offline=offline)


def _fetch(context: Context, found: Found, *, offline: bool) -> dict[str, int]:
    listed = context.home.work / "clone-models.json"
    return _brought(found, context.home.models, listed, context.command, context.progress, offline=offline)


def gathered(found: Found, folder: Path, command: str, progress: Progress) -> list[tuple[LockedModel, Path]]:
    """Have every model of the lock in `folder`: (model, file)."""
    folder.mkdir(parents=True)
    _brought(found, folder, folder / "list.json", command, progress, offline=False)
    return [(model, folder / model.target_path) for model in found.lock.models]


def _brought(
    found: Found, folder: Path, extended: Path, command: str, progress: Progress, *, offline: bool
) -> dict[str, int]:
    """By a list in which files of the home that the lock lies in are a source too, after the cache."""
    from comfygov.ops.models_place import Asked, open_place
    from comfygov.ops.models_verify import VerifyRequest, verify

    beside = _models_of(found)
    entries = [msgspec.to_builtins(_with_source(model, beside)) for model in found.lock.models]
    fs.write_atomic(extended, msgspec.json.encode({"models": entries}))
    asked = Asked(models_dir=str(folder), spec=str(extended))
    result = verify(open_place(asked, command, progress), VerifyRequest(offline=offline))
    extended.unlink()
    if result.bad:
        lines = tuple(
            line
            for model in result.bad
            for line in (f"{model.target_path}: {model.status}: {model.problem}", *model.skipped)
        )
        network = all(model.network for model in result.bad)
        raise GovError(
            Code.NETWORK if network else Code.NOT_FOUND,
            f"{len(result.bad)} of {len(result.models)} models could not be had",
            "give them a source in the spec and make the version again, or --skip-models",
            lines[:40],
        )
    return result.counts


def _models_of(found: Found) -> Path | None:
    from comfygov.truth.home import Home
    from comfygov.truth.settings import read_config

    return Home(found.home, read_config(found.home / "config.toml")).models if found.home else None


def _with_source(model: LockedModel, beside: Path | None) -> LockedModel:
    """`model` with the file of the lock's own home as its first source, when it is there."""
    path = beside / model.target_path if beside else None
    if path is None or not path.is_file():
        return model
    return msgspec.structs.replace(model, sources=(str(path), *model.sources))
