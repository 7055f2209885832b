"""What is the user's and would be written over is kept aside in `state/rescued`, never onto what is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.ports import clock, fs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.truth.home import Home

TRUTH_FILES = ("pyproject.toml", "uv.lock", "plugins.json")


def place(home: Home, suffix: str = "") -> Path:
    """A name in `state/rescued` that nothing has yet; who keeps something makes it."""
    stem = f"{clock.now().replace(':', '')}{suffix}"
    path, number = home.state / "rescued" / stem, 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number}")
    return path


def keep_hand_edits(home: Home, where: Path) -> list[str]:
    """Copy truth files that are in no snapshot, so that a person wrote them, to `where`; their names."""
    kept = []
    for name in TRUTH_FILES:
        path = home.truth_path(name)
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if not _is_known(home, name, content):
            fs.write_atomic(where / name, content)
            kept.append(name)
    return kept


def _is_known(home: Home, name: str, content: bytes) -> bool:
    return any(other.read_bytes() == content for other in _copies(home, name) if other.is_file())


def _copies(home: Home, name: str) -> Iterator[Path]:
    """Where the same content may be already: snapshots, newest first, and what was kept aside before."""
    yield from sorted(home.snapshots.glob(f"[0-9]*/{name}"), reverse=True)
    yield from (home.state / "rescued").glob(f"*/{name}")
