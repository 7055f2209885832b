"""`gov models add`: one file from anywhere into the models folder and the spec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.models import MODEL_ENDINGS, ModelEntry
from comfygov.models import sources, spec, spec_writing
from comfygov.ports import fs

if TYPE_CHECKING:
    from comfygov.models.fetch import Fetched, Fetcher
    from comfygov.models.sources import Source
    from comfygov.ops.models_place import Place

_CHECK = "check the path or address, and whether it wants a login"


@dataclass(frozen=True)
class AddRequest:
    """`folder` is the kind of model (checkpoints, loras, …), or a path below the models folder."""

    source: str
    folder: str
    name: str | None = None
    checksum: str | None = None


class AddResult(msgspec.Struct, frozen=True):
    name: str
    target_path: str
    path: str
    checksum: str
    size: int
    source: str
    spec: str
    fetched_bytes: int


def add(place: Place, request: AddRequest) -> AddResult:
    """Raises `bad_source`, `already_exists`, `network`, and what a bad option deserves."""
    from comfygov.models import crew
    from comfygov.models.meter import Meter

    source = sources.parse(request.source, Path.cwd())
    meter = Meter(place.progress, "fetching", 1, 0)
    fetcher = place.fetcher(meter, 1)
    done: list[tuple[ModelEntry, Fetched]] = []

    def work(_: None) -> None:
        entry = _entry(place, request, source, fetcher)
        with place.target_held(entry.target_path):
            _refuse_existing(place, entry)
            fs.remove_leftovers(place.folders.target(entry.target_path).parent)
            got = _fetch(place, fetcher, entry)
        done.append((entry, got))

    try:
        crew.run([None], work, 1, place.stop, meter.show)
    finally:
        place.memory.save()
    entry, got = done[0]
    target = place.folders.target(entry.target_path)
    where = (str(target), f"sha256:{got.checksum}", got.size, source.public, str(place.spec_path))
    return AddResult(entry.name, entry.target_path, *where, got.received)


def _entry(place: Place, request: AddRequest, source: Source, fetcher: Fetcher) -> ModelEntry:
    name = request.name or source.file_name or _offered_name(source, fetcher)
    text = str(Path(source.location)) if source.kind == "file" else source.text
    raw = spec.RawEntry(
        name=name, source=text, target_path=f"{request.folder.rstrip('/')}/{name}", checksum=request.checksum
    )
    entry = spec.entry("gov models add", raw, Path.cwd(), place.folders.models_dir, place.home)
    if not name.lower().endswith(MODEL_ENDINGS):
        raise GovError(Code.BAD_SOURCE, f"`{name}` has no ending that ComfyUI takes for a model", "give it one: --name")
    if place.is_strict and entry.is_pickled:
        raise GovError(
            Code.BAD_SOURCE,
            f"`{name}` can run code when it is loaded, and policy.model_formats is strict",
            "take a .safetensors file",
        )
    return entry


def _refuse_existing(place: Place, entry: ModelEntry) -> None:
    _refuse_known(place, entry)
    if place.folders.target(entry.target_path).exists():
        message = f"{place.folders.target(entry.target_path)} is there already"
        raise GovError(Code.ALREADY_EXISTS, message, "gov models scan takes it into the spec; or give another --name")


def _refuse_known(place: Place, entry: ModelEntry) -> None:
    """The spec takes no second entry for a file, nor a file inside of one: nobody could read it any more."""
    key = spec.folded(entry.target_path)
    for known in place.entries() if place.spec_path.exists() else ():
        other = spec.folded(known.target_path)
        if f"{key}/".startswith(f"{other}/") or other.startswith(f"{key}/"):
            message = f"{place.spec_path} has an entry for {known.target_path} already"
            raise GovError(Code.ALREADY_EXISTS, message, "gov models verify, or give another --name")


def _offered_name(source: Source, fetcher: Fetcher) -> str:
    """What the server calls the file (RFC 6266)."""
    from comfygov.models.fetch import login_words
    from comfygov.ports.http import HttpFailure

    try:
        answer = fetcher.access.client.get(fetcher.access.request(source), {"Range": "bytes=0-0"})
    except HttpFailure as failure:
        why = f"{source.public}: {failure}{login_words(source, failure)}"
        code = Code.NETWORK if failure.transient or not failure.status else Code.BAD_SOURCE
        raise GovError(code, why, "try again later" if code is Code.NETWORK else _CHECK) from failure
    header = answer.headers.get("content-disposition", "")
    answer.close()
    encoded = re.search(r"filename\*\s*=\s*[\w-]+'[\w-]*'([^;\s]+)", header)
    plain = re.search(r'filename\s*=\s*(?:"([^"]+)"|([^;\s]+))', header)
    name = unquote(encoded[1]) if encoded else (plain[1] or plain[2]) if plain else ""
    if not name or "/" in name or "\\" in name:
        raise GovError(Code.BAD_SOURCE, f"{source.public} does not say what the file is called", "say it: --name")
    return name


def _fetch(place: Place, fetcher: Fetcher, entry: ModelEntry) -> Fetched:
    from comfygov.models.fetch import NotFetched

    try:
        # The spec first: killed between the two, `gov models verify` knows what belongs there and has it.
        return fetcher.fetch(
            entry, place.folders.target(entry.target_path), stored=lambda got: _write_down(place, entry, got)
        )
    except NotFetched as failure:
        code = Code.NETWORK if failure.network else Code.BAD_SOURCE
        hint = "run it again: what has arrived is kept" if failure.network else _CHECK
        raise GovError(code, f"{entry.name} was not fetched", hint, failure.skipped) from failure


def _write_down(place: Place, entry: ModelEntry, got: Fetched) -> None:
    written: dict[str, Any] = {
        "name": entry.name,
        "source": entry.sources[0],
        "target_path": entry.target_path,
        "checksum": f"sha256:{got.checksum}",
        "size": got.size,
    }
    with place.spec_held():
        _refuse_known(place, entry)
        spec_writing.append(place.spec_path, [written])
