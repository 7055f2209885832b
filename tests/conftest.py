"""Fixtures that every suite may use."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.kit.governed import Governed

if TYPE_CHECKING:
    from pathlib import Path

# A shell that starts this in the background has it ignore Ctrl-C, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def bare(tmp_path: Path) -> Governed:
    """A directory without a home yet."""
    return Governed(tmp_path)


@pytest.fixture
def governed(tmp_path: Path) -> Governed:
    """A governed home on the stand-in, with one package, in 1.5 s."""
    made = Governed(tmp_path)
    made.wheel("basis", "1.0")
    made.init(requirements="basis\n").ok()
    return made
