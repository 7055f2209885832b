"""`state/audit.jsonl`: what was done, by whom; each line carries the digest of the one before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from comfygov.model.state import AuditEntry
from comfygov.ports import clock, fs

if TYPE_CHECKING:
    from pathlib import Path


def entry(
    command: str,
    action: str,
    before: str | None,
    after: str | None,
    *,
    reason: str = "",
    approved: tuple[str, ...] = (),
    txid: str | None = None,
) -> AuditEntry:
    """A line to be; it gets its place in the chain when it is appended."""
    return AuditEntry(clock.now(), actor(), os.uname().nodename, command, action, before, after, reason, approved, txid)


def actor() -> str:
    """Who runs the command, as the system knows them."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def append(path: Path, line: AuditEntry) -> None:
    """Add `line` to the chain; a line that is already the last one is not added again (recovery)."""
    last = last_line(path)
    if last is not None and msgspec.structs.replace(last, previous="", digest="") == line:
        return
    chained = msgspec.structs.replace(line, previous=last.digest if last else "")
    # A power cut may have torn the last line: it stays as it is, and the new one starts on its own.
    torn = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    written = msgspec.json.encode(msgspec.structs.replace(chained, digest=digest_of(chained)))
    fs.append_line(path, b"\n" + written if torn else written)


def digest_of(line: AuditEntry) -> str:
    """sha256 of the line without its own digest."""
    import hashlib

    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(line, digest=""))).hexdigest()


def last_line(path: Path) -> AuditEntry | None:
    """The last line that can be read; a torn one behind it is skipped here and reported by the check."""
    if not path.is_file():
        return None
    for raw in reversed(path.read_bytes().splitlines()):
        try:
            return msgspec.json.decode(raw, type=AuditEntry)
        except msgspec.MsgspecError:
            continue
    return None
