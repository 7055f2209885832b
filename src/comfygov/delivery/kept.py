"""Results that were made and not delivered: the newest ones are kept in the work directory."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from comfygov.delivery.outputs import FileOutput
from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from comfygov.delivery.outputs import ValueOutput
    from comfygov.delivery.work import Work

MOST_BYTES = 2 << 30
"""Of all of them; the newest one is kept whatever its size."""
_MOST_LINES = 50
# What the names of a job's own files begin with: jobs.new_id, and for inputs their number.
_TOKEN = re.compile(r"[0-9a-f]{24}")
_INPUT = re.compile(r"[0-9a-f]{24}-[0-9]+-")
_change = threading.Lock()


def keep(work: Work, token: str, found: Sequence[FileOutput | ValueOutput]) -> tuple[str, ...]:
    """Move the folder of a job aside; lines that say where each of its files is now."""
    source, target = work.output / token, work.kept / token
    with _change:
        if source.is_dir():
            work.kept.mkdir(exist_ok=True)
            source.rename(target)
            _drop_oldest(work.kept)
    lines = []
    for one in found:
        if isinstance(one, FileOutput) and one.path.is_relative_to(source):
            path = target / one.path.relative_to(source)
            lines.append(f"{one.filename} (node {one.node_id}): {path.stat().st_size:,} bytes, kept at {path}")
    return tuple(lines[:_MOST_LINES])


def take_over(work: Work) -> None:
    """What jobs of a handler that was killed left in a work directory that nobody works in: their results are kept,
    their inputs go."""
    for path in work.input.iterdir():
        if _INPUT.match(path.name):
            path.unlink()
    for folder in [path for path in work.output.iterdir() if _TOKEN.fullmatch(path.name)]:
        if not any(file.is_file() for file in folder.rglob("*")):
            fs.remove_tree(folder)
            continue
        work.kept.mkdir(exist_ok=True)
        folder.rename(work.kept / folder.name)
        _drop_oldest(work.kept)


def _drop_oldest(folder: Path) -> None:
    total = 0
    newest_first = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for number, path in enumerate(newest_first):
        total += sum(file.lstat().st_size for file in path.rglob("*"))
        if number and total > MOST_BYTES:
            fs.remove_tree(path)
