"""One stage for each worker: to build it takes longer than to set it up again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios import Stage
from tests.kit.governed import Governed

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 1 << 30


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """In memory where there is room: it is set up again for each of hundreds of kills."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED_BYTES
    with tempfile.TemporaryDirectory(dir=MEMORY if roomy else None, prefix="stage-") as directory:
        yield Stage(Governed(Path(directory))).build()
