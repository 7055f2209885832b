"""The handler's own parts on a ComfyUI (the stand-in) that this process started: what no client can bring about."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from comfygov.delivery.failure import JobFailed
from comfygov.delivery.outputs import FileOutput
from comfygov.model.handler import Settings, Storage
from tests.kit.handlers import Stage, do, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.delivery.comfyui import Comfy
    from comfygov.delivery.handler import Handler


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handler]:
    with Stage(tmp_path_factory.mktemp("inside")).prepare().inside() as made:
        yield made


def next_one(handler: Handler, old: Comfy) -> Comfy:
    """The ComfyUI that is started when `old` has ended."""
    until = time.monotonic() + 20
    while handler.supervisor.now in (None, old):
        assert time.monotonic() < until
        time.sleep(0.02)
    found = handler.supervisor.now
    assert found is not None
    return found


def test_who_ends_a_comfyui_that_is_dead_leaves_the_next_one_alone(handler: Handler) -> None:
    old = handler.supervisor.first()
    old.service.child.kill()
    new = next_one(handler, old)
    handler.supervisor.end(old, "too late")
    old.service.stop(9, 0.0)
    assert new.service.exit_code() is None
    assert do(handler, picture(1)).images


def test_a_fresh_comfyui_is_one_after_the_job(handler: Handler) -> None:
    old = handler.supervisor.first()
    assert do(handler, picture(1), refresh_worker=True).images
    assert next_one(handler, old).number == old.number + 1


def test_a_result_that_cannot_be_stored_is_kept_and_said_where(tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = Settings(storage=Storage(output="file", folder=str(out)))
    with Stage(tmp_path).prepare().inside(settings) as handler:
        out.write_text("a file, where a folder should be")
        with pytest.raises(JobFailed) as failure:
            do(handler, picture(1))
        work = handler.supervisor.work
        (file,) = work.kept.rglob("*.png")
        assert f"kept at {file}" in failure.value.error.details[-1]
        assert not list(work.output.iterdir())
        out.unlink()
        assert do(handler, picture(1)).images
    replace(work, is_temporary=True).remove()
    assert file.is_file(), "a temporary directory goes, and what is kept stays"
    assert not work.output.exists()


def test_a_job_with_nowhere_to_put_its_results_is_not_run(handler: Handler) -> None:
    with pytest.raises(JobFailed, match="no folder is named"):
        do(handler, picture(1), output_mode="file")
    assert not (handler.supervisor.work.kept).exists()


def test_files_that_are_not_the_jobs_own_stay(handler: Handler) -> None:
    standing = handler.supervisor.work.input / "standing.png"
    standing.write_bytes(b"x")
    root = handler.supervisor.work
    handler._clear("token", [FileOutput(standing, "standing.png", "", "1", "images", "image/png", preview=False)])
    assert standing.is_file()
    standing.unlink()
    assert root.output.is_dir()


def test_signals_while_a_handler_ends_leave_no_comfyui(tmp_path: Path) -> None:
    found: list[Comfy] = []
    try:
        with Stage(tmp_path).prepare().inside() as handler:
            stop = handler.supervisor.stop
            found.append(handler.supervisor.first())

            def disturbed() -> None:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.raise_signal(number)
                stop()

            handler.supervisor.stop = disturbed  # type: ignore[method-assign]
    except KeyboardInterrupt:
        found[0].service.stop(signal.SIGKILL, 0.0)
        pytest.fail("a signal cut the end short")
    assert found[0].service.exit_code() is not None
