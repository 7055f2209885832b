"""Uploads, /view and the static files of packs."""

from __future__ import annotations

import mimetypes
import os
import re
from pathlib import Path

import folder_paths
import nodes

from app.http import Request, Response, json_response, text_response

FORCED_DOWNLOAD = {"text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript", "text/css"}
Part = tuple[str | None, bytes]


def _parameter(header: str, name: str) -> str | None:
    found = re.search(rf'[;\s]{name}="((?:[^"\\]|\\.)*)"', header) or re.search(rf"[;\s]{name}=([^;\s]+)", header)
    if found is None:
        return None
    return found.group(1).replace("%22", '"').replace("\\", "") if found else None


def parse_multipart(content_type: str, body: bytes) -> dict[str, Part]:
    """The fields of a form: name -> (file name or None, content)."""
    boundary = _parameter(";" + content_type, "boundary")
    if boundary is None:
        return {}
    fields: dict[str, Part] = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = piece.lstrip(b"\r\n").partition(b"\r\n\r\n")
        lines = head.decode("utf-8", "replace").split("\r\n")
        about = next((x for x in lines if x.lower().startswith("content-disposition:")), "")
        name = _parameter(about, "name")
        if name is not None:
            fields[name] = (_parameter(about, "filename"), content)
    return fields


def _text(fields: dict[str, Part], name: str, default: str | None = None) -> str | None:
    return fields[name][1].decode() if name in fields else default


def _free_name(folder: Path, name: str, content: bytes) -> str:
    """A name that is not taken; the same name when the same bytes are already there."""
    path, number = folder / name, 1
    while path.exists() and path.read_bytes() != content:
        path = folder / f"{Path(name).stem} ({number}){Path(name).suffix}"
        number += 1
    return os.path.relpath(path, folder)


def upload_image(request: Request) -> Response:
    """Store the file of a form; the name may change."""
    fields = parse_multipart(request.headers.get("Content-Type", ""), request.body)
    filename, content = fields.get("image", (None, b""))
    kind = _text(fields, "type", "input")
    root = folder_paths.get_directory_by_type(kind)
    if root is None:
        return text_response("500 Internal Server Error\n\nServer got itself in trouble", 500)
    if not filename:
        return Response(400)
    subfolder = _text(fields, "subfolder", "") or ""
    folder = Path(os.path.abspath(Path(root, subfolder)))  # noqa: PTH100 - `..` must be folded
    target = os.path.abspath(folder / filename)  # noqa: PTH100
    if os.path.commonpath((root, target)) != root:
        return Response(400)
    folder.mkdir(parents=True, exist_ok=True)
    if _text(fields, "overwrite") not in {"true", "1"}:
        filename = _free_name(folder, filename, content)
    (folder / filename).write_bytes(content)
    return json_response({"name": filename, "subfolder": subfolder, "type": kind})


def view(request: Request) -> Response:
    """The bytes of one file of input, output or temp."""
    if "filename" not in request.query:
        return Response(404)
    filename, root = folder_paths.annotated_filepath(request.query["filename"])
    if not filename or filename[0] == "/" or ".." in filename:
        return Response(400)
    root = root or folder_paths.get_directory_by_type(request.query.get("type", "output"))
    if root is None:
        return Response(400)
    folder = os.path.abspath(Path(root, request.query.get("subfolder", "")))  # noqa: PTH100
    if os.path.commonpath((folder, root)) != root:
        return Response(403)
    return _file(Path(folder, Path(filename).name))


def _file(path: Path) -> Response:
    if not path.is_file():
        return Response(404)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    kind = "application/octet-stream" if kind in FORCED_DOWNLOAD else kind
    return Response(200, path.read_bytes(), kind, {"Content-Disposition": f'filename="{path.name}"'})


def list_extensions() -> list[str]:
    """The JavaScript files of all packs, as the browser asks for them."""
    found = []
    for name, folder in nodes.EXTENSION_WEB_DIRS.items():
        found += [f"/extensions/{name}/{path.relative_to(folder).as_posix()}" for path in Path(folder).rglob("*.js")]
    return found


def extension_file(request: Request) -> Response:
    """One static file of a pack."""
    name, inside = request.match
    root = Path(nodes.EXTENSION_WEB_DIRS.get(name, "/nowhere")).resolve()
    path = (root / inside).resolve()
    if not path.is_file() or not path.is_relative_to(root):
        return text_response("404: Not Found", 404)
    kind = "application/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
    return Response(200, path.read_bytes(), kind or "application/octet-stream")
