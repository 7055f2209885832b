"""The one printer. Data goes to standard output, everything else to standard error."""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = "comfygov/1"
_PLAIN_UPDATE_SECONDS = 10.0
_CLEAR_TO_END = "\x1b[K"
"""Erase from the cursor to the end of the line (ECMA-48, EL)."""


def accept_any_text() -> None:
    """Let no letter that the terminal's encoding lacks end a command: a `?` stands for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class _Screen:
    """Whether the line of an update stands on the terminal: whatever is said next takes its place."""

    has_update = False


def emit_lines(lines: Iterable[str]) -> None:
    """Print data for a person."""
    _write(printable(line) for line in lines)


def _write(lines: Iterable[str]) -> None:
    """Raises GovError when standard output takes nothing: what was done is done, and not told."""
    if sys.stdout is None:
        raise GovError(Code.TOOL_FAILED, "standard output is closed; the command itself is done", "gov status")
    _close_update()
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read has seen enough
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        message = f"standard output cannot be written ({error.strerror}); the command itself is done"
        raise GovError(Code.TOOL_FAILED, message, "gov status") from error


def printable(text: str) -> str:
    """`text` without what a terminal would obey: packs choose some of what we show."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)


def emit_envelope(
    command: str,
    data: object,
    *,
    ok: bool = True,
    findings: Iterable[object] = (),
    error: GovError | None = None,
) -> None:
    """Print the one JSON envelope of a command."""
    import msgspec

    envelope = {
        "schema": SCHEMA,
        "command": command,
        "ok": ok,
        "data": data,
        "findings": list(findings),
        "error": _error_object(error),
    }
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is UTF-8 (RFC 8259), whatever the terminal speaks
    _write([msgspec.json.encode(envelope).decode()])


def _error_object(error: GovError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "code": error.code.text,
        "message": error.message,
        "hint": error.hint,
        "details": list(error.details),
    }


def emit_error(error: GovError) -> None:
    """`error: …`, its details, an empty line, `hint: …`."""
    say(f"error: {printable(error.message)}")
    for line in error.details:
        say(f"  {printable(line)}")
    if error.hint:
        say("")
        say(f"hint: {error.hint}")


def say(text: str, *, end: str = "\n") -> None:
    """A line that is not data."""
    _close_update()
    _put(text, end)


def _close_update() -> None:
    if _Screen.has_update:
        _Screen.has_update = False
        _put(f"\r{_CLEAR_TO_END}", "")


def _put(text: str, end: str) -> None:
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, end=end, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody listens: that is no reason to fail


def say_log(line: str) -> None:
    """A line of somebody else's log."""
    say(printable(line))


class TerminalProgress:
    """One line per stage; on a terminal the line is there while the stage runs."""

    def __init__(self, *, quiet: bool = False, live: bool | None = None) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" if live is None else live
        self._updated = time.monotonic()

    def begin(self, stage: str) -> None:
        if self._live and not self._quiet:
            say(f"  {stage} …", end="")

    def end(self, stage: str, seconds: float, *, ok: bool) -> None:
        if self._quiet:
            return
        start = f"\r{_CLEAR_TO_END}" if self._live else ""
        say(f"{start}  {stage}: {'done' if ok else 'failed'} in {seconds:.1f} s")

    def note(self, line: str) -> None:
        if not self._quiet:
            say(f"  {printable(line)}")

    def warn(self, line: str) -> None:
        say(f"warning: {printable(line)}")

    def update(self, line: str) -> None:
        if self._quiet:
            return
        if self._live:
            _put(f"\r  {printable(line)}{_CLEAR_TO_END}", "")
            _Screen.has_update = True
        elif time.monotonic() - self._updated >= _PLAIN_UPDATE_SECONDS:
            self._updated = time.monotonic()
            say(f"  {printable(line)}")
