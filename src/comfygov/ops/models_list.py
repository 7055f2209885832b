"""`gov models list`: what the spec names and what is known of it without reading a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from comfygov.models.verify import Found
    from comfygov.ops.models_place import Place


class ListedModel(msgspec.Struct, frozen=True):
    """`status`: `present` is remembered to be right, `unchecked` is there and was not read since it changed."""

    name: str
    target_path: str
    status: Literal["present", "unchecked", "missing", "wrong", "unverifiable"]
    size: int | None
    checksum: str | None
    sources: tuple[str, ...]
    path: str


class ListResult(msgspec.Struct, frozen=True):
    models_dir: str
    spec: str
    models: tuple[ListedModel, ...]


def list_models(place: Place) -> ListResult:
    """Only reads."""
    found = place.look().look(place.entries(), read=False)
    return ListResult(str(place.folders.models_dir), str(place.spec_path), tuple(map(_listed, found)))


def _listed(one: Found) -> ListedModel:
    entry = one.entry
    size = one.facts.st_size if one.facts else entry.size
    checksum = f"sha256:{entry.checksum}" if entry.checksum else None
    return ListedModel(entry.name, entry.target_path, _status(one), size, checksum, entry.sources, str(one.path))


def _status(one: Found) -> Literal["present", "unchecked", "missing", "wrong", "unverifiable"]:
    if one.facts is None:
        return "wrong" if one.problem else "missing"
    if one.has_wrong_size:
        return "wrong"
    if one.entry.checksum is None:
        return "unverifiable"
    if one.checksum is None:
        return "unchecked"
    return "present" if one.is_right else "wrong"
