"""ComfyUI runs while things happen: restarts that are interrupted or killed, and many commands at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from comfygov.ports.comfy_api import ComfyApi, free_port
from tests.faults.scenarios import Operation, Stage, faulty
from tests.kit.checker import problems, processes

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.kit.governed import Ran


@pytest.fixture
def running(stage: Stage) -> Iterator[tuple[Stage, int]]:
    """The stage with ComfyUI running, and its port."""
    stage.reset(Operation("nothing", ()))
    port = free_port()
    stage.governed.gov("run", "--detach", "--", "--port", str(port)).ok()
    yield stage, port
    stage.governed.gov("stop")
    assert not processes(stage.home)


def judge(stage: Stage) -> None:
    stage.governed.gov("stop")
    stage.governed.gov("gc").ok()
    found = problems(stage.home, stage.user_files)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("command", [("tx", "promote", "3", "--restart"), ("rollback", "1", "--restart")])
def test_an_interrupted_restart_says_what_is_committed(running: tuple[Stage, int], command: tuple[str, ...]) -> None:
    stage, _ = running
    ran = faulty(stage.governed, "int@comfyui.launched").gov(*command, "--json")
    assert ran.exit_code == 130, ran
    error = ran.envelope["error"]
    assert f"production is {stage.governed.head()}" in error["message"]
    assert error["hint"].startswith("gov run --detach")
    status = stage.governed.json("status")
    assert status["running"] is None
    assert not status["drift"]
    if command[0] == "tx":
        assert stage.governed.json("tx", "inspect", "3")["transaction"]["status"] == "promoted"
        assert "tx0003" not in [tx["txid"] for tx in status["pending"]]
    judge(stage)


def test_a_killed_restart_leaves_a_whole_state_and_no_stray_comfyui(running: tuple[Stage, int]) -> None:
    stage, port = running
    ran = faulty(stage.governed, "kill@comfyui.launched").gov("tx", "promote", "3", "--restart")
    assert ran.exit_code == -signal.SIGKILL
    status = stage.governed.json("status")
    assert status["running"]["snapshot"] == status["head"]
    stage.governed.gov("stop").ok()
    assert not ComfyApi("127.0.0.1", port).alive()
    judge(stage)
    assert stage.governed.json("tx", "inspect", "3")["transaction"]["status"] == "promoted"


def test_rollback_to_where_production_is_restarts_what_runs(running: tuple[Stage, int]) -> None:
    stage, _ = running
    before = stage.governed.json("status")["running"]["pid"]
    stage.governed.gov("rollback", stage.governed.head(), "--restart").ok()
    assert stage.governed.json("status")["running"]["pid"] != before


READERS = ("status", "snapshot list", "tx list", "node list", "audit", "audit --check", "tx inspect 1", "node show one")


def test_many_at_once_neither_break_each_other_nor_lie(running: tuple[Stage, int]) -> None:
    """Two that change, twenty that read, a ComfyUI and a trial, all at the same time."""
    stage, port = running
    governed = stage.governed
    done: list[Ran] = []
    changers = [
        [("node", "disable", "one"), ("snapshot", "create"), ("node", "enable", "one"), ("gc",)],
        [("snapshot", "create"), ("rollback", "4"), ("rollback", "5"), ("snapshot", "create")],
    ]
    readers = [tuple(READERS[number % len(READERS)].split()) for number in range(20)]

    def work(commands: list[tuple[str, ...]]) -> None:
        done.extend(governed.gov("--json", *command) for command in commands)

    trial = threading.Thread(target=work, args=([("tx", "run", "two")],))
    threads = [trial, *(threading.Thread(target=work, args=(commands,)) for commands in changers)]
    threads += [threading.Thread(target=work, args=([command],)) for command in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=180)
    assert len(done) == 1 + 8 + 20
    for ran in done:
        assert ran.exit_code in (0, 6), ran  # busy is a true answer
        assert ran.envelope["ok"] is (ran.exit_code == 0)
    assert all(ran.exit_code == 0 for ran in done if " ".join(ran.argv[1:]) in READERS)
    assert ComfyApi("127.0.0.1", port).alive()
    numbers = [int(path.name.split("-")[0]) for path in (stage.home / "snapshots").glob("[0-9]*")]
    assert len(numbers) == len(set(numbers))
    judge(stage)


def test_a_comfyui_whose_gov_died_at_its_start_is_known(stage: Stage) -> None:
    stage.reset(Operation("nothing", ()))
    port = free_port()
    for place in ("comfyui.started", "comfyui.launched"):
        ran = faulty(stage.governed, f"kill@{place}").gov("run", "--detach", "--", "--port", str(port))
        assert ran.exit_code == -signal.SIGKILL
        running = stage.governed.json("status")["running"]
        assert os.getsid(running["pid"]) == running["pid"]
        stage.governed.gov("node", "remove", "one", "--purge-code").failed(1, "--restart")
        stage.governed.gov("stop").ok()
        assert not processes(stage.home)
    judge(stage)


def test_a_copied_home_does_not_own_the_comfyui_of_the_first(running: tuple[Stage, int]) -> None:
    stage, port = running
    copy = stage.governed.root / "copy"
    shutil.copytree(stage.home, copy, symlinks=True)
    try:
        assert stage.governed.json("status", "--home", str(copy))["running"] is None
        stage.governed.gov("stop", "--home", str(copy)).failed(1, "no ComfyUI of this home runs")
        assert ComfyApi("127.0.0.1", port).alive()
    finally:
        shutil.rmtree(copy)


def test_an_interrupted_stop_starts_again_what_ran(running: tuple[Stage, int]) -> None:
    stage, _ = running
    child = faulty(stage.governed, "stop@lock.held").start("rollback", "1", "--restart")
    wait_for_stop(child)
    family = processes(stage.home)
    for line in family:
        if "main.py" in line:
            os.kill(int(line.split()[0]), signal.SIGSTOP)  # it cannot end before it is killed
    child.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    child.send_signal(signal.SIGINT)
    time.sleep(0.2)
    for line in family:
        if "main.py" in line:
            os.kill(int(line.split()[0]), signal.SIGCONT)
    child.communicate(timeout=90)
    assert child.returncode == 130
    assert stage.governed.json("status")["running"] is not None


def wait_for_stop(child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_lock_whose_holder_died_is_free(stage: Stage) -> None:
    stage.reset(Operation("nothing", ()))
    ran = faulty(stage.governed, "kill@lock.held").gov("snapshot", "create")
    assert ran.exit_code == -signal.SIGKILL
    assert json.loads((stage.home / "state" / "home.lock").read_text())["command"] == "gov snapshot create"
    assert stage.governed.json("status")["busy"] is None
    stage.governed.gov("snapshot", "create").ok()


def test_a_busy_home_names_who_is_at_work(stage: Stage) -> None:
    stage.reset(Operation("nothing", ()))
    child = faulty(stage.governed, "stop@lock.held").start("snapshot", "create", "--reason", "slow")
    deadline = time.monotonic() + 20
    while not (busy := stage.governed.json("status")["busy"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert busy["pid"] == child.pid
    stage.governed.gov("node", "disable", "one").failed(6, "gov snapshot create --reason slow", str(child.pid))
    child.send_signal(signal.SIGCONT)
    child.communicate(timeout=30)
    assert child.returncode == 0
    stage.governed.gov("node", "disable", "one").ok()


def test_a_dead_comfyui_is_not_taken_for_a_running_one(running: tuple[Stage, int]) -> None:
    stage, _ = running
    for line in processes(stage.home):
        os.kill(int(line.split()[0]), signal.SIGKILL)
    assert stage.governed.json("status")["running"] is None
    stage.governed.gov("node", "remove", "one", "--purge-code").ok()
    judge(stage)
