"""`gov models scan`: take model files that are there already into the spec, with sums and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.models import SAFETENSORS, ModelEntry, ScannedModel
from comfygov.models import folders, safetensors, spec, spec_writing
from comfygov.models.verify import Found

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from comfygov.ops.models_place import Place


class ScanResult(msgspec.Struct, frozen=True):
    """`added` are in the spec now (with `dry_run`: would be), `known` were; `problems` are in neither."""

    models_dir: str
    spec: str
    dry_run: bool
    added: tuple[ScannedModel, ...]
    known: int
    problems: tuple[ScannedModel, ...]
    total_bytes: int


def scan(place: Place, *, dry_run: bool) -> ScanResult:
    """Read every model file below the models folder. A pin that the spec has is never changed."""
    if place.is_lock:
        raise GovError(Code.USAGE, "a scan would change a lock", "scan into a spec: --spec FILE")
    root = place.folders.models_dir
    if not root.is_dir():
        raise GovError(Code.NOT_FOUND, f"there is no folder {root}", "name the one with the models: --models-dir")
    odd, found = _find(place, root)
    odd += _without_clashes(found)
    look = place.look()
    try:
        look.sum_all(found)
    finally:
        place.memory.save()
    pins = {spec.folded(entry.target_path): entry for entry in _pins(place)}
    scanned = [*odd, *(_judged(place, one, pins.get(spec.folded(one.entry.target_path))) for one in found)]
    problems = tuple(model for model in scanned if model.problem)
    new = tuple(m for m in scanned if not m.problem and spec.folded(m.target_path) not in pins)
    if new and not dry_run:
        _write_down(place, new)
    return ScanResult(
        str(root),
        str(place.spec_path),
        dry_run,
        new,
        len(scanned) - len(new) - len(problems),
        problems,
        sum(model.size for model in scanned),
    )


def _pins(place: Place) -> tuple[ModelEntry, ...]:
    return place.entries() if place.spec_path.exists() else ()


def _find(place: Place, root: Path) -> tuple[list[ScannedModel], list[Found]]:
    """Files with names that no spec can hold, and the others."""
    odd: list[ScannedModel] = []
    found: list[Found] = []
    for path in folders.model_files(root):
        facts = path.stat()
        name = str(path.relative_to(root)).encode("utf-8", "replace").decode()
        try:
            target = _target(path, name, root, place)
        except GovError as error:
            odd.append(ScannedModel(name.rpartition("/")[2], name, facts.st_size, "", problem=error.message))
            continue
        found.append(Found(ModelEntry(path.name, target), path, facts, place.memory.known(facts)))
    return odd, found


def _without_clashes(found: list[Found]) -> list[ScannedModel]:
    """Take out the files whose names another one has where case does not matter: a spec cannot hold both."""
    first: dict[str, Found] = {}
    clashes: list[ScannedModel] = []
    for one in list(found):
        other = first.setdefault(spec.folded(one.entry.target_path), one)
        if other is not one:
            found.remove(one)
            problem = f"on some systems it is one file with {other.entry.target_path}"
            size = one.facts.st_size if one.facts else 0
            clashes.append(ScannedModel(one.entry.name, one.entry.target_path, size, "", problem=problem))
    return clashes


def _target(path: Path, name: str, root: Path, place: Place) -> str:
    target = spec.judged_target("scan", name, root, place.home)
    if target != str(path.relative_to(root)):
        raise GovError(Code.BAD_CONFIG, "its name would mean another file")
    return target


def _judged(place: Place, one: Found, pin: ModelEntry | None) -> ScannedModel:
    facts, problem = _facts(one.path)
    if one.checksum is None:
        problem = one.problem
    elif pin is not None and pin.checksum not in (None, one.checksum):
        problem = f"it has sha256:{one.checksum}, the spec says sha256:{pin.checksum}"
    elif place.is_strict and one.entry.is_pickled:
        problem = "its format can run code when it is loaded (policy.model_formats is strict)"
    size = one.facts.st_size if one.facts else 0
    return ScannedModel(one.entry.name, one.entry.target_path, size, f"sha256:{one.checksum}", facts, problem)


def _facts(path: Path) -> tuple[Any, str]:
    if not path.name.lower().endswith(SAFETENSORS):
        return None, ""
    try:
        return safetensors.read(path), ""
    except (safetensors.BadHeader, OSError) as problem:
        return None, str(problem)


def _write_down(place: Place, new: Sequence[ScannedModel]) -> None:
    with place.spec_held():
        taken = {spec.folded(entry.target_path) for entry in _pins(place)}
        entries = [entry for model in new if spec.folded(model.target_path) not in taken for entry in _written(model)]
        spec_writing.append(place.spec_path, entries)


def _written(model: ScannedModel) -> Iterator[dict[str, Any]]:
    facts = model.facts
    yield {
        "name": model.name,
        "target_path": model.target_path,
        "checksum": model.checksum,
        "size": model.size,
        **({"kind": facts.kind} if facts and facts.kind else {}),
        **({"metadata": facts.metadata} if facts and facts.metadata else {}),
    }
