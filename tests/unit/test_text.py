"""Small pieces of text for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from comfygov.cli.render import text

if TYPE_CHECKING:
    import pytest


def test_a_time_is_on_the_clock_of_whoever_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert text.when("2026-01-02T18:04:05Z") == "2026-01-03 03:04:05"
        assert text.when("2026-01-02T18:04:05+09:00") == "2026-01-02 18:04:05"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert text.when("yesterday") == "yesterday"
    assert text.when("") == "-"
