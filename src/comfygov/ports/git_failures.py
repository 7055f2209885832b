"""What git's failures mean to a person, without credentials."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import fs
from comfygov.ports.source import Source, without_credentials

if TYPE_CHECKING:
    from pathlib import Path

    from comfygov.ports import process

_NETWORK_WORDS = re.compile(
    r"could not resolve|unable to access|connection (refused|timed out|reset)|network is unreachable|"
    r"could not read from remote|early eof|operation timed out",
    re.IGNORECASE,
)


_ROOM_BYTES = 1 << 20
"""With less than this git fails in ways that do not name the disk (a ref that cannot be locked)."""


def failure(what: str, directory: Path, done: process.Completed) -> GovError:
    """The error for a git command that failed, with its last words and without credentials."""
    words = tuple(without_credentials(done.words).splitlines()[-15:])
    if _disk_is_full(directory, done):
        return GovError(Code.DISK_FULL, f"the disk became full during `{what}`", "free space, run this again", words)
    return GovError(
        Code.TOOL_FAILED, f"`{what}` failed (exit {done.exit_code})", "the lines above are git's own", words
    )


def _disk_is_full(directory: Path, done: process.Completed) -> bool:
    said = re.search("no space left", done.words, re.IGNORECASE) is not None
    return said or (directory.is_dir() and fs.free_bytes(directory) < _ROOM_BYTES)


def fetch_failure(source: Source, repository: Path, done: process.Completed) -> GovError:
    words = tuple(without_credentials(done.words).splitlines()[-15:])
    if _disk_is_full(repository, done):
        return failure("git fetch", repository, done)
    if re.search("dubious ownership", done.words):
        return GovError(
            Code.BAD_SOURCE,
            f"git does not trust {source.public}: another user owns it",
            f"git config --global --add safe.directory {source.public}",
            words,
        )
    if "couldn't find remote ref HEAD" in done.words:
        return GovError(Code.REF_NOT_FOUND, f"{source.public} has no commit yet", "commit something there first", words)
    if re.search("couldn't find remote ref|invalid refspec", done.words):
        message = f"{source.public} has no branch, tag or commit of that name"
        return GovError(Code.REF_NOT_FOUND, message, f"git ls-remote {shlex.quote(source.public)}", words)
    if source.local:
        return GovError(
            Code.BAD_SOURCE,
            f"{source.public} is not a git repository that can be read",
            "give the URL of a git repository, or make one of the folder: git init, git add -A, git commit",
            words,
        )
    if re.search(r"authentication failed|could not read username|permission denied|terminal prompts disabled|not found",
                 done.words, re.IGNORECASE):  # fmt: skip
        return GovError(
            Code.BAD_SOURCE,
            f"{source.public} cannot be read: it is not there, or it needs credentials",
            "check the address; for a private repository set up a git credential helper or an ssh key",
            words,
        )
    if _NETWORK_WORDS.search(done.words):
        return GovError(Code.NETWORK, f"{source.public} does not answer", "check the network and the address", words)
    return GovError(Code.BAD_SOURCE, f"git cannot read {source.public}", "check the address", words)
