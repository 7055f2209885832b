"""Input files of a job: decoded or fetched into ComfyUI's input folder under names of their own, removed afterwards."""

from __future__ import annotations

import base64
import re
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from comfygov.delivery import addresses
from comfygov.delivery.failure import JobFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.delivery.deadline import Deadline
    from comfygov.delivery.job import InputFile
    from comfygov.model.handler import Settings

_PARALLEL = 8
_MAX_WORKFLOW_BYTES = 32_000_000
_KEPT_NAME_LENGTH = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ANNOTATION = re.compile(r"(?P<name>.*?)(?P<kind> \[(?:input|output|temp)\])?", re.DOTALL)
_WHITESPACE = re.compile(r"\s+")


@dataclass
class Placed:
    """The files of one job. `names` maps what the workflow says to what lies in the input folder."""

    names: dict[str, str] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)

    def new_name(self, text: str) -> str:
        """`cat.png`, also written `cat.png [input]`, under its name in this job; every other text as it is."""
        match = _ANNOTATION.fullmatch(text)
        if match is None or match["name"] not in self.names:
            return text
        return self.names[match["name"]] + (match["kind"] or "")

    def remove(self) -> None:
        for path in self.paths:
            path.unlink(missing_ok=True)


class _Budget:
    """Bytes that the input files of one job may have together, from several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = self._left = most_bytes
        self._change = threading.Lock()

    def take(self, size: int) -> None:
        """Raises JobFailed once it is used up, or closed."""
        with self._change:
            self._left -= size
        if self._left < 0:
            raise JobFailed("too_large", f"the input files are larger than {self._most_bytes:,} bytes together")

    def close(self) -> None:
        self._left = -1


def place(files: Sequence[InputFile], folder: Path, token: str, settings: Settings, deadline: Deadline) -> Placed:
    """Write them all, or none. Raises JobFailed."""
    placed = Placed()
    for number, file in enumerate(files):
        # At the top of the folder: nodes that choose from a list see nothing else. ComfyUI's names have no `\\`.
        safe = _UNSAFE.sub("_", file.name.replace("\\", "/"))[-_KEPT_NAME_LENGTH:].lstrip(".-") or "file"
        placed.names[file.name] = f"{token}-{number}-{safe}"
        placed.paths.append(folder / placed.names[file.name])
    try:
        _write_all(list(zip(files, placed.paths, strict=True)), settings, deadline)
    except BaseException:
        placed.remove()
        raise
    return placed


def _write_all(pairs: list[tuple[InputFile, Path]], settings: Settings, deadline: Deadline) -> None:
    here = [pair for pair in pairs if not is_url(pair[0].source)]
    there = [pair for pair in pairs if is_url(pair[0].source)]
    budget = _Budget(settings.max_all_inputs_bytes)
    for file, path in here:
        deadline.check("input files were being decoded")
        data = decoded(file, settings.max_input_bytes)
        budget.take(len(data))
        path.write_bytes(data)
    if there:
        with ThreadPoolExecutor(min(_PARALLEL, len(there)), thread_name_prefix="job inputs") as pool:
            done = [pool.submit(_fetch, file, path, settings, budget, deadline) for file, path in there]
            for one in as_completed(done):
                if one.exception() is not None:
                    budget.close()  # the others are for nothing
                    pool.shutdown(wait=True, cancel_futures=True)
                    one.result()


def is_url(source: str) -> bool:
    return source[:8].lower().startswith(("http://", "https://"))


def _fetch(file: InputFile, path: Path, settings: Settings, budget: _Budget, deadline: Deadline) -> None:
    with path.open("wb") as target:
        for piece in addresses.fetch(
            file.source, settings.max_input_bytes, deadline, allow_private=settings.allow_private_urls
        ):
            budget.take(len(piece))
            target.write(piece)


def decoded(file: InputFile, most_bytes: int) -> bytes:
    """The bytes of a base64 text or a data URI (RFC 2397). Raises JobFailed `bad_job`."""
    text = file.source
    is_base64 = True
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma:
            raise JobFailed("bad_job", f"the data URI of `{file.name}` has no comma, and so no data")
        is_base64 = head.lower().endswith(";base64")
    if len(text) * 3 // 4 > most_bytes:
        raise JobFailed("bad_job", f"`{file.name}` is larger than {most_bytes:,} bytes")
    if not is_base64:
        return unquote_to_bytes(text)
    try:
        return base64.b64decode(_padded(_WHITESPACE.sub("", text)), validate=True)
    except (ValueError, TypeError) as error:
        hint = "send base64, a data URI, or an http(s) address"
        raise JobFailed("bad_job", f"the content of `{file.name}` is no base64: {error}", hint) from error


def _padded(text: str) -> bytes:
    """Also the alphabet of addresses (RFC 4648, section 5), and without the padding that many leave out."""
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    return (plain + "=" * (-len(plain) % 4)).encode("ascii", errors="replace")


def fetch_workflow(url: str, settings: Settings, deadline: Deadline) -> dict[str, Any]:
    """The workflow at an address. Raises JobFailed."""
    if not is_url(url):
        raise JobFailed("bad_job", "`workflow_url` is no http or https address")
    pieces = addresses.fetch(url, _MAX_WORKFLOW_BYTES, deadline, allow_private=settings.allow_private_urls)
    try:
        return msgspec.json.decode(b"".join(pieces), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise JobFailed("bad_workflow", f"what {addresses.shown(url)} holds is no workflow: {error}") from error
