"""The directory that a handler works in: one handler at a time, and nothing of a killed one goes on."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from comfygov.delivery import job as jobs
from comfygov.delivery import kept, work
from comfygov.errors import Code, GovError
from comfygov.ports import process

if TYPE_CHECKING:
    from pathlib import Path


def left_running(place: work.Work) -> process.Service:
    """A process as a handler that was killed leaves it."""
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    run_id = work.new_run_id(place)
    return process.start_service(argv, cwd=place.root, env=dict(os.environ), run_id=run_id, stdout=place.log)


def test_two_handlers_do_not_share_a_work_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_WAIT_SECONDS", 0.0)
    with work.held(str(tmp_path), "gov handler serve"):
        with pytest.raises(GovError, match=r"another handler works in .*`gov handler serve`, pid") as failure:
            work.held(str(tmp_path), "gov handler run").__enter__()
        assert failure.value.code is Code.BUSY
    with work.held(str(tmp_path), "gov handler run") as again:
        assert again.root == tmp_path


def test_what_a_killed_handler_left_running_is_ended(tmp_path: Path) -> None:
    stale = left_running(work.make(str(tmp_path)))
    other = left_running(work.make(str(tmp_path / "other")))
    try:
        with work.held(str(tmp_path), "gov handler serve") as place:
            assert stale.wait(10) is not None
            assert not place.run_record.exists()
        assert other.exit_code() is None
        place.run_record.write_text(other.run_id + "\nx")
        with work.held(str(tmp_path), "gov handler serve"):
            assert other.exit_code() is None, "what is no record of ours ends nothing"
    finally:
        for one in (stale, other):
            one.stop(9, 0.0)


def test_temporary_directories_of_killed_handlers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    new, dead, kept = (work.make("") for _ in range(3))
    for place in (dead, kept):
        place.lock.write_text("{}")
    (kept.kept / "job").mkdir(parents=True)
    stale = left_running(dead)
    try:
        with work.held("", "gov handler run") as first, work.held("", "gov handler run") as second:
            assert stale.wait(10) is not None
            assert {path.name for path in tmp_path.iterdir()} == {
                place.root.name for place in (new, kept, first, second)
            }
            assert list(kept.root.iterdir()) == [kept.kept]
            assert first.output.is_dir(), "its handler lives"
        assert not first.root.exists()
    finally:
        stale.stop(9, 0.0)


def test_results_of_jobs_that_were_killed_are_kept_and_their_inputs_go(tmp_path: Path) -> None:
    place = work.make(str(tmp_path))
    done, empty = jobs.new_id(), jobs.new_id()
    (place.output / done / "a").mkdir(parents=True)
    (place.output / done / "a" / "x.png").write_bytes(b"x")
    (place.output / empty).mkdir()
    (place.input / f"{done}-0-cat.png").write_bytes(b"x")
    for standing in (place.input / "cat.png", place.output / "cat.png"):
        standing.write_bytes(b"x")
    kept.take_over(place)
    assert (place.kept / done / "a" / "x.png").is_file()
    assert [path.name for path in place.output.iterdir()] == ["cat.png"]
    assert [path.name for path in place.input.iterdir()] == ["cat.png"]
