"""A pack's code as it reads before it runs: findings, and what it imports."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import GovError
from comfygov.ports import process
from comfygov.ports.inside import relay

if TYPE_CHECKING:
    from pathlib import Path

_SCAN = relay.__file__.replace("relay.py", "scan.py")
_TIMEOUT_SECONDS = 60.0


class Finding(msgspec.Struct, frozen=True):
    """`line` is 0 where it is the whole file; `rule` says of which kind it is."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class Import(msgspec.Struct, frozen=True):
    """`optional` are imports that may fail (in a `try`), or that wait for a function to be called."""

    module: str
    file: str
    line: int
    optional: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


class Reading(msgspec.Struct, frozen=True):
    """`names` are what the pack's own modules and folders are called."""

    findings: tuple[Finding, ...] = ()
    imports: tuple[Import, ...] = ()
    names: frozenset[str] = frozenset()


def read(folder: Path) -> Reading:
    """Read a checkout in which nothing has run yet. To end the reader, or to keep it for a minute, is a finding."""
    try:
        done = process.run([sys.executable, "-I", "-S", _SCAN, str(folder)], timeout_seconds=_TIMEOUT_SECONDS)
        return msgspec.json.decode(done.stdout, type=Reading)
    except GovError as error:
        return Reading((Finding(".", 0, "obfuscated", f"it cannot be read: {error.message}"),))
    except msgspec.MsgspecError:
        return Reading((Finding(".", 0, "obfuscated", "it cannot be read: the reader ended"),))
