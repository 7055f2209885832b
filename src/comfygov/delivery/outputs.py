"""What a finished prompt left: every file of every kind with the node that made it, texts, and other values.

Shapes of `outputs[node_id]`: lists of `{filename, subfolder, type}` under any key (`images`, `gifs`, `audio`, `3d`,
`latents` …), `text` a list of strings, `result` of 3D previews `[model_file, camera]`, and whatever packs invent.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.delivery.failure import JobFailed

if TYPE_CHECKING:
    from comfygov.delivery.work import Work

_PIECE_BYTES = 1 << 20
# What the standard library does not know on every system.
_TYPES = {
    ".webp": "image/webp", ".avif": "image/avif", ".heic": "image/heic", ".exr": "image/x-exr", ".svg": "image/svg+xml",
    ".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".mkv": "video/x-matroska",
    ".flac": "audio/flac", ".opus": "audio/opus", ".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".wav": "audio/wav",
    ".m4a": "audio/mp4", ".glb": "model/gltf-binary", ".gltf": "model/gltf+json", ".obj": "model/obj",
    ".stl": "model/stl", ".ply": "model/ply", ".latent": "application/octet-stream", ".json": "application/json",
    ".safetensors": "application/octet-stream", ".txt": "text/plain",
}  # fmt: skip


@dataclass(frozen=True)
class FileOutput:
    """A file on this machine. `subfolder` is as the workflow asked for it, without the job's own folder."""

    path: Path
    filename: str
    subfolder: str
    node_id: str
    kind: str
    media_type: str
    preview: bool


@dataclass(frozen=True)
class ValueOutput:
    """A text, or any other value that a node shows."""

    node_id: str
    kind: str
    value: Any

    @property
    def is_text(self) -> bool:
        return isinstance(self.value, str)


class OutputMissing(JobFailed):
    """The history names a file that is not there: an answer from ComfyUI's cache about a file that was removed."""

    def __init__(self, node_id: str, path: Path) -> None:
        super().__init__("output_missing", f"node {node_id} names the file {path.name[:200]}, which is not there")


def media_type(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"


def collect(entry: dict[str, Any], work: Work, token: str) -> list[FileOutput | ValueOutput]:
    """Everything, in the order of the nodes; then files of the job's folder that no node told of."""
    found: list[FileOutput | ValueOutput] = []
    outputs = entry.get("outputs")
    for node_id, by_key in outputs.items() if isinstance(outputs, dict) else ():
        for kind, values in by_key.items() if isinstance(by_key, dict) else ():
            found += _of_key(str(node_id), str(kind), values, work, token)
    known = {one.path for one in found if isinstance(one, FileOutput)}
    return [*found, *_untold(work.output / token, known, token, work)]


def previews(entry: dict[str, Any], work: Work) -> Iterator[Path]:
    """The files in ComfyUI's temporary folder that an entry names, whatever became of its prompt."""
    outputs = entry.get("outputs")
    for by_key in outputs.values() if isinstance(outputs, dict) else ():
        for values in by_key.values() if isinstance(by_key, dict) else ():
            for item in values if isinstance(values, (list, tuple)) else ():
                if not isinstance(item, dict) or item.get("type") != "temp":
                    continue
                path = _inside(work.temp, Path(str(item.get("subfolder") or ""), str(item.get("filename") or "")))
                if path is not None and _is_file(path):
                    yield path


def _of_key(node_id: str, kind: str, values: object, work: Work, token: str) -> Iterator[FileOutput | ValueOutput]:
    items = values if isinstance(values, (list, tuple)) else [values]
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("filename"), str):
            yield _file(node_id, kind, item, work, token)
        elif isinstance(item, str) and (path := _named(item, work)) is not None:
            yield _described(path, work.output, node_id, kind, token, preview=False)
        elif item is not None and kind != "animated":
            yield ValueOutput(node_id, kind, item)


def _file(node_id: str, kind: str, item: dict[str, Any], work: Work, token: str) -> FileOutput:
    place = str(item.get("type") or "output")
    root = work.folder_of(place)
    path = _inside(root, Path(str(item.get("subfolder") or ""), item["filename"]))
    if path is None:
        raise JobFailed("execution_failed", f"node {node_id} names a file outside of ComfyUI's folders")
    if not _is_file(path):
        raise OutputMissing(node_id, path)
    return _described(path, root, node_id, kind, token, preview=place == "temp")


def _described(path: Path, root: Path, node_id: str, kind: str, token: str, *, preview: bool) -> FileOutput:
    parts = path.relative_to(root).parent.parts
    subfolder = "/".join(parts[1:] if parts[:1] == (token,) else parts)
    return FileOutput(path, path.name, subfolder, node_id, kind, media_type(path.name), preview)


def _inside(root: Path, relative: Path) -> Path | None:
    """A path below `root`, whatever a pack says; links do not lead out."""
    try:
        path = (root / relative).resolve()
        base = root.resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return root / path.relative_to(base) if path.is_relative_to(base) and path != base else None


def _named(text: str, work: Work) -> Path | None:
    """3D previews name their model by its path below the output folder, in a plain string."""
    if len(text) > 1000 or not media_type(text).startswith("model/"):
        return None
    path = _inside(work.output, Path(text))
    return path if path is not None and _is_file(path) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _untold(folder: Path, known: set[Path], token: str, work: Work) -> Iterator[FileOutput]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path not in known:
            yield _described(path, work.output, "", "file", token, preview=False)


def sum_and_size(path: Path) -> tuple[str, int]:
    """sha256 in hex, and bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def value_bytes(value: object) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else msgspec.json.encode(value)
