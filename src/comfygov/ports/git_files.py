"""What of git is read from its files: faster than a child process, or what no command tells."""

from __future__ import annotations

import codecs
import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA1_LETTERS = 40
_LONGEST_LINK = 4096


def git_folder(checkout: Path) -> Path | None:
    """`.git`, or the folder that the `.git` file of a worktree or a submodule names."""
    git = checkout / ".git"
    if git.is_dir():
        return git
    try:
        named = git.read_text(encoding="utf-8", errors="replace").removeprefix("gitdir:").strip()
    except OSError:
        return None
    found = checkout / named
    return found if found.is_dir() else None


def readable(data: bytes) -> str:
    """The text of a file that some editor on some system wrote."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def detached_head(folder: Path) -> str | None:
    """Read HEAD in a git folder directly: 3 ms less than a child process, 50 packs are 150 ms."""
    try:
        text = (folder / "HEAD").read_text().strip()
    except OSError:
        return None
    return text if COMMIT.fullmatch(text) else None


def has_content(path: Path, blob: str) -> bool:
    """True when a file holds the very bytes of a blob, whatever filters git would put on the way."""
    if path.is_symlink() or not path.is_file():
        return False
    import hashlib

    kind = hashlib.sha1 if len(blob) == _SHA1_LETTERS else hashlib.sha256
    digest = kind(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == blob


def link_target(path: str, content: str) -> str:
    """The path in a repository that a link at `path` leads to. Empty for what no system would follow."""
    if not content or "\0" in content or len(content) > _LONGEST_LINK:
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), content))
