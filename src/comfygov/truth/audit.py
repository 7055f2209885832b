"""`state/audit.jsonl`: what was done, by whom; each line carries the digest of the one before.

head.json remembers the digest of the last line, so that lines missing at the end are noticed too.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import msgspec

from comfygov.model.state import AuditEntry
from comfygov.ports import clock, fs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.model.state import Head, Pending

_DIGEST = re.compile(rb'"digest":"[0-9a-f]*"')


def entry(
    command: str, action: str, *, reason: str = "", approved: tuple[str, ...] = (), txid: str | None = None
) -> AuditEntry:
    """A line to be; the commit gives it its snapshots and its place in the chain."""
    return AuditEntry(
        clock.now(), actor(), os.uname().nodename, command, action, None, None, reason, approved, txid
    )  # fmt: skip


def actor() -> str:
    """Who runs the command, as the system knows them."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def chained(line: AuditEntry, previous: str) -> AuditEntry:
    """`line` behind the line whose digest is `previous`, with its own digest."""
    bare = msgspec.structs.replace(line, previous=previous, digest="")
    return msgspec.structs.replace(bare, digest=_digest_of(msgspec.json.encode(bare)))


def _digest_of(raw: bytes) -> str:
    """sha256 of a line as it is written, but with an empty digest: fields that come later change no old line."""
    import hashlib

    return hashlib.sha256(_DIGEST.sub(b'"digest":""', raw)).hexdigest()


def last_digest(path: Path, head: Head | None) -> str:
    """What the next line follows: head knows it, but for homes that were made before it did."""
    if head is not None and head.audit:
        return head.audit
    last = next((line for _, line in reversed(list(_lines(path))) if line is not None), None)
    return last.digest if last else ""


def append(path: Path, line: AuditEntry) -> None:
    """Add a chained line, unless it is the last one already (recovery). What a power cut left of the same
    line goes; anything else behind the last newline stays, and is found by the check."""
    written = msgspec.json.encode(line)
    data = path.read_bytes() if path.is_file() else b""
    if data.rstrip(b"\n").rpartition(b"\n")[2] == written and data.endswith(b"\n"):
        return
    torn = data.rpartition(b"\n")[2]
    if torn and written.startswith(torn):
        os.truncate(path, len(data) - len(torn))
        torn = b""
    fs.append_line(path, b"\n" + written if torn else written)


def entries(path: Path) -> list[AuditEntry]:
    """All lines that can be read, oldest first."""
    return [line for _, line in _lines(path) if line is not None]


def problems(path: Path, head: Head | None, pending: Pending | None) -> list[str]:
    """Every edit, deletion, change of order and truncation; empty when the chain is whole."""
    found: list[str] = []
    previous = ""
    for number, (raw, line) in enumerate(_lines(path), start=1):
        if line is None:
            found.append(f"line {number} cannot be read")
            continue
        if line.digest != _digest_of(raw):
            found.append(f"line {number} was edited: `{line.action}` of {line.at}")
        if line.previous != previous:
            found.append(f"line {number} does not follow the one before it: lines are missing or were moved")
        previous = line.digest
    unfinished = pending is not None and pending.audit.previous == previous and head is not None
    known = {previous, pending.audit.digest} if unfinished and pending else {previous}
    if head is not None and head.audit and head.audit not in known:
        found.append("lines at the end are missing: the last one is not the one that head remembers")
    return found


def _lines(path: Path) -> Iterator[tuple[bytes, AuditEntry | None]]:
    if not path.is_file():
        return
    for raw in path.read_bytes().split(b"\n"):
        if not raw:
            continue
        try:
            yield raw, msgspec.json.decode(raw, type=AuditEntry)
        except msgspec.MsgspecError:
            yield raw, None
