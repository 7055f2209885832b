"""The handler's own parts on a ComfyUI (the stand-in) that this process started: what no client can bring about."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from comfygov.delivery import comfyui
from comfygov.delivery.failure import JobFailed
from comfygov.delivery.outputs import FileOutput
from comfygov.errors import Code, GovError
from comfygov.model.handler import Settings, Storage
from comfygov.ops.handler_runtime import VersionChoice
from comfygov.ops.handler_serve import ServeRequest, serve
from comfygov.ops.handler_worker import WorkerRequest
from comfygov.ports import process
from comfygov.ports.progress import Silent
from tests.kit.handlers import Stage, do, picture, sleep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.delivery.comfyui import Comfy
    from comfygov.delivery.handler import Handler
    from comfygov.ports.comfy_api import ComfyApi


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


class Deaf:
    """An API that hands a prompt over, and then says nothing for a while: neither to that nor to the next question."""

    def __init__(self, api: ComfyApi) -> None:
        self.api = api
        self.prompts = self.silent = 0

    def post(self, route: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answer = self.api.post(route, body)
        if route != "/prompt":
            return answer
        self.prompts, self.silent = self.prompts + 1, 2
        raise GovError(Code.TOOL_FAILED, "ComfyUI does not answer /prompt")

    def get(self, route: str) -> dict[str, Any]:
        if self.silent:
            self.silent -= 1
            raise GovError(Code.TOOL_FAILED, f"ComfyUI does not answer {route}")
        return self.api.get(route)


def test_a_workflow_whose_answer_is_lost_is_not_handed_over_again(handler: Handler) -> None:
    comfy = handler.supervisor.first()
    real, deaf = comfy.api, Deaf(comfy.api)
    comfy.api = deaf  # type: ignore[assignment]
    try:
        assert do(handler, picture(7)).images
    finally:
        comfy.api = real
    assert deaf.prompts == 1


def test_previews_of_a_job_that_failed_go(handler: Handler) -> None:
    graph = picture(1) | {
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "9": {"class_type": "StandinFail", "inputs": {"message": "oh no"}},
    }
    with pytest.raises(JobFailed, match="oh no"):
        do(handler, graph)
    assert not [path for path in handler.supervisor.work.temp.rglob("*") if path.is_file()]


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def find(self, pattern: str) -> str:
        until = time.monotonic() + 20
        while not (found := re.search(pattern, "\n".join(self.said))):
            assert time.monotonic() < until, self.said
            time.sleep(0.02)
        return found.group()


def test_results_can_be_read_when_comfyui_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyui, "_AGAIN_SECONDS", 0.01)
    monkeypatch.setenv("COMFYGOV_STATUS_FILE", str(tmp_path / "status.json"))
    stage, notes = Stage(tmp_path).prepare(), Notes()
    place = WorkerRequest(VersionChoice(runtime=str(stage.runtime)), work_dir=str(tmp_path / "work"))
    request = ServeRequest(place, http="127.0.0.1:0", grace_seconds=20)
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve, request, Settings(), "tests", notes, lambda _line: None)
        url = notes.find(r"http://127\.0\.0\.1:\d+")
        notes.find("ready after")

        def ask(method: str, route: str, graph: object = None) -> Any:
            answer = urllib3.request(
                method, url + route, json={"input": {"workflow": graph}}, timeout=20, retries=False
            )
            return answer.json()

        read = ask("POST", "/runsync", picture(1))
        assert read["status"] == "COMPLETED"
        ids = [ask("POST", "/run", graph)["id"] for graph in (sleep(30), sleep(30))]
        while ask("GET", f"/status/{ids[0]}")["status"] == "IN_QUEUE":
            assert not serving.done()
        (stage.comfyui / "nodes.py").write_text("import not_there_at_all\n")
        process.end_marked((tmp_path / "work" / "comfyui.run").read_text())
        notes.find("ending: jobs that run have")
        codes = {ask("GET", f"/status/{job_id}")["output"]["code"] for job_id in ids}
        assert codes <= {"comfyui_died", "not_ready", "handed_back"}
        with pytest.raises(GovError, match="ComfyUI does not start any more"):
            serving.result(30)
