"""`gov models needed`: which model files a workflow names, and which of them are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.models import FOLDER_NAMES, MODEL_ENDINGS, NeededModel
from comfygov.models import workflow

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.models.workflow import Named
    from comfygov.ops.models_place import Place

_MAX_WORKFLOW_BYTES = 200_000_000


class NeededResult(msgspec.Struct, frozen=True):
    workflow: str
    models: tuple[NeededModel, ...]

    @property
    def missing(self) -> tuple[NeededModel, ...]:
        return tuple(model for model in self.models if model.status != "present")


def needed(place: Place, path: Path) -> NeededResult:
    """Raises `not_found` and `bad_source` for a file that is no workflow."""
    named = workflow.models_of(_document(path))
    locked = {entry.target_path for entry in place.entries()} if place.spec_path.exists() else set()
    return NeededResult(str(path), tuple(_judged(place, one, locked) for one in named))


def _document(path: Path) -> object:
    try:
        if path.stat().st_size > _MAX_WORKFLOW_BYTES:
            raise GovError(Code.BAD_SOURCE, f"{path} is too large for a workflow", "name a workflow's JSON file")
        found: object = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise GovError(Code.NOT_FOUND, f"there is no workflow {path}", "check the path") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        hint = "save it with Workflow > Save, or Export (API)"
        raise GovError(Code.BAD_SOURCE, f"{path} is not JSON: {error}", hint) from error
    return found


def _judged(place: Place, one: Named, locked: set[str]) -> NeededModel:
    kinds = [one.folder] if one.folder else place.folders.kinds()
    names = _file_names(one)
    for kind in kinds:
        for folder in place.folders.of_kind(kind):
            for name in names:
                if _is_file(folder, name):
                    return NeededModel(
                        one.name, one.node, one.field, one.folder, "present", str(folder / name), one.url
                    )
    wanted = any(_fits(target, one.folder, name) for target in locked for name in names)
    return NeededModel(one.name, one.node, one.field, one.folder, "locked" if wanted else "unknown", None, one.url)


def _file_names(one: Named) -> tuple[str, ...]:
    """Embeddings are named without their ending."""
    if one.folder == "embeddings" and not one.name.lower().endswith(MODEL_ENDINGS):
        return tuple(f"{one.name}{ending}" for ending in (".safetensors", ".pt", ".bin"))
    return (one.name,)


def _is_file(folder: Path, name: str) -> bool:
    if ".." in name.split("/") or name.startswith("/"):
        return False
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):
        return False


def _fits(target: str, folder: str, name: str) -> bool:
    kind, _, rest = target.partition("/")
    return rest == name and (not folder or kind in FOLDER_NAMES.get(folder, (folder,)))
