"""Installing a lock from a folder of wheels, where no index can be asked: uv sync itself cannot do that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports.uv import Uv, extra_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TIMEOUT_SECONDS = 3600.0
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==")


class Wheelhouse(Uv):
    """uv with `folder` in the place of every index. `hashes` are `sha256:…` by canonical package name: the lock has
    none for wheels that no index has."""

    def __init__(self, folder: Path, hashes: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.folder = folder
        self.hashes = hashes
        self.offline = True

    def sync(self, project: Path, environment: Path, interpreter: str, extras: Sequence[str] = ()) -> None:
        """As `Uv.sync`: exactly what the lock says, each file by its hash."""
        listed = self._run(
            ["export", "--project", str(project), "--python", interpreter, "--frozen", "--all-groups", "--no-header",
             "--no-annotate", "--no-emit-project", "--no-hashes",
             "--format", "requirements.txt", *extra_options(extras)],
            cwd=project,
            timeout_seconds=_TIMEOUT_SECONDS,
        )  # fmt: skip
        lines = [self._with_hashes(line) for line in listed.stdout.splitlines() if _PINNED.match(line)]
        wanted = project / "wheelhouse.txt"
        wanted.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        words = ["pip", "sync", "--python", str(environment / "bin" / "python"), "--no-index", "--no-build"]
        words += ["--find-links", str(self.folder), "--require-hashes", "--allow-empty-requirements", str(wanted)]
        done = self._run(words, cwd=project, timeout_seconds=_TIMEOUT_SECONDS)
        for failed in (listed, done):
            if failed.exit_code != 0:
                raise GovError(
                    Code.NOT_FOUND,
                    f"the packages cannot be installed from {self.folder} alone",
                    "add the wheels that are named above, or clone without --wheels-dir where there is a network",
                    tuple(failed.words.splitlines()[-30:]),
                )

    def _with_hashes(self, line: str) -> str:
        match = _PINNED.match(line)
        name = re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""
        return " ".join([line.rstrip(" \\"), *(f"--hash={text}" for text in self.hashes.get(name, ()))])
