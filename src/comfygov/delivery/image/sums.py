"""What a folder of a build context holds, as one sum: an instruction that names it is run again when it changes.

Engines differ in whether they look at what is mounted for an instruction (buildah 1.28 does not).
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from comfygov.delivery.image.tarball import EPOCH_SECONDS

if TYPE_CHECKING:
    from pathlib import Path


def of_folder(folder: Path) -> str:
    """The sha256 of the names and contents of its files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        digest.update(f"{len(name.encode())} {name} {of_file(path)}\n".encode())
    return digest.hexdigest()


def of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def settle(folder: Path) -> None:
    """Give every file the same rights and the same time: an image may hold both. Models are links to those of the
    cache, and stay as they are."""
    for path in sorted(folder.rglob("*")):
        if path.stat().st_nlink > 1 and path.is_file():
            continue
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH_SECONDS, EPOCH_SECONDS))
