"""`gov run`, `gov stop` and changes under a running ComfyUI."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from comfygov.ports.comfy_api import ComfyApi, free_port
from tests.kit.repos import commit_all

if TYPE_CHECKING:
    from tests.kit.governed import Governed

DAEMON = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import os, time; os.setsid(); time.sleep(300)"], start_new_session=True)
NODE_CLASS_MAPPINGS = {}
"""


def test_detached_production_runs_from_the_sealed_path_and_stops_whole(governed: Governed) -> None:
    governed.promote_pack("spawner", files={"__init__.py": DAEMON})
    started = governed.json("run", "--detach", "--", "--port", str(free_port()))
    pid = started["record"]["pid"]
    process = psutil.Process(pid)
    generation = Path(os.path.realpath(governed.home / ".venv-prod"))
    assert process.cmdline()[0] == str(generation / "bin" / "python")
    family = [process, *process.children(recursive=True)]
    assert len(family) > 1
    assert governed.json("status")["running"]["pid"] == pid
    governed.gov("run", "--detach").failed(1, "runs already", "gov stop")
    governed.gov("stop").ok()
    assert not [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
    assert governed.json("status")["running"] is None


def test_the_foreground_ends_with_ctrl_c(governed: Governed) -> None:
    port = free_port()
    child = governed.start("run", "--", "--port", str(port))
    api = ComfyApi("127.0.0.1", port)
    deadline = time.monotonic() + 30
    while not api.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert governed.json("status")["running"]["port"] == port
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 0
    assert not api.alive()
    assert governed.json("status")["running"] is None


def test_a_flip_does_not_reach_into_a_running_comfyui(governed: Governed) -> None:
    governed.wheel("extra", "1.0")
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    pid = governed.json("status")["running"]["pid"]
    try:
        governed.promote_pack("more", "extra\n")
        status = governed.json("status")
        assert status["running"]["pid"] == pid
        assert status["running"]["snapshot"] != status["head"]
        governed.gov("rollback", "1").ok()
    finally:
        governed.gov("stop").ok()


def test_code_under_a_running_comfyui_changes_only_with_a_restart(governed: Governed) -> None:
    governed.promote_pack("moving")
    pack = governed.root / "packs" / "moving"
    (pack / "new.txt").write_text("x")
    commit_all(pack)
    port = free_port()
    governed.gov("run", "--detach", "--", "--port", str(port)).ok()
    try:
        pid = governed.json("status")["running"]["pid"]
        governed.gov("tx", "run", "moving", "--ref", "main").ok()
        governed.gov("tx", "promote", "2").failed(1, "replace code under it", "--restart")
        governed.gov("tx", "promote", "2", "--restart").ok()
        running = governed.json("status")["running"]
        assert running["pid"] != pid
        assert running["port"] == port
        assert running["snapshot"] == governed.head()
    finally:
        governed.gov("stop").ok()


def test_run_refuses_a_damaged_environment_and_repairs_on_request(governed: Governed) -> None:
    site = next((governed.home / ".venv-prod" / "lib").glob("python3*/site-packages"))
    (site / "intruder-1.0.dist-info").mkdir()
    governed.gov("run", "--detach").failed(3, "intruder", "gov sync")
    assert "environment: + intruder 1.0" in governed.json("status")["drift"]
    governed.gov("run", "--sync", "--detach", "--", "--port", str(free_port())).ok()
    governed.gov("stop").ok()
    assert governed.installed() == {"basis-1.0"}


def test_logs_show_production_and_trials(governed: Governed) -> None:
    governed.promote_pack("one")
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    governed.gov("stop").ok()
    assert "one" in governed.gov("logs", "-n", "0").ok().stdout
    assert "one" in governed.gov("logs", "tx0001", "-n", "0").ok().stdout


def test_a_command_that_died_after_its_commit_point_is_finished_by_the_next(governed: Governed) -> None:
    governed.wheel("extra", "1.0")
    governed.promote_pack("one", "extra\n")
    wanted = governed.world()
    governed.gov("rollback", "1").ok()
    state = governed.home / "state"
    meta = json.loads((governed.home / "snapshots" / "0004-promote_post" / "meta.json").read_text())
    pending = {
        "pid": 999999,
        "pid_started": 1.0,
        "command": "gov tx promote tx0001",
        "since": "2026-01-01T00:00:00Z",
        "target": meta["id"],
        "previous": "0006-rollback_post",
        "audit": {
            "at": "2026-01-01T00:00:00Z",
            "actor": "a",
            "host": "h",
            "command": "gov tx promote tx0001",
            "action": "promote_post",
            "before": None,
            "after": meta["id"],
        },
    }
    (state / "materialising.json").write_text(json.dumps(pending))
    head = json.loads((state / "head.json").read_text())
    (state / "head.json").write_text(json.dumps({**head, "snapshot": meta["id"], "generation": meta["generation"]}))
    status = governed.json("status")
    assert status["unfinished"] == "gov tx promote tx0001"
    assert status["drift"]
    ran = governed.gov("sync").ok()
    assert "finished what `gov tx promote tx0001` began" in ran.stderr
    after = governed.world()
    assert {**after, "state/head.json": ""} == {**wanted, "state/head.json": ""}
    assert json.loads((state / "audit.jsonl").read_text().splitlines()[-1])["after"] == meta["id"]


def test_a_trial_whose_process_was_killed_is_closed_by_the_next_change(governed: Governed) -> None:
    files = {"__init__.py": "import time\ntime.sleep(600)\n"}
    governed.gov("node", "add", str(governed.pack("sleeper", files=files))).ok()
    child = governed.start("tx", "run", "sleeper")
    deadline = time.monotonic() + 30
    while not (governed.home / "state" / "work" / "tx0001-boot" / "tmp").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.communicate()
    ran = governed.gov("tx", "promote", "1").failed(1, "is failed and cannot be promoted")
    assert "marked as failed" in ran.stderr
    assert "its process ended" in governed.gov("tx", "inspect", "1").ok().stdout
    governed.gov("tx", "abort", "1").ok()
    assert governed.json("tx", "inspect", "1")["transaction"]["status"] == "aborted"
    assert not list((governed.home / ".venv-candidate").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_trial_that_is_ended_leaves_no_process(governed: Governed, number: signal.Signals) -> None:
    daemon = DAEMON.replace("NODE_CLASS_MAPPINGS", "import time; time.sleep(600); NODE_CLASS_MAPPINGS")
    governed.gov("node", "add", str(governed.pack("sleeper", files={"__init__.py": daemon}))).ok()
    child = governed.start("tx", "run", "sleeper")
    deadline = time.monotonic() + 30
    while not (family := _carrying(governed, "tx0001")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert family
    child.send_signal(number)
    child.communicate(timeout=30)
    governed.gov("tx", "abort", "1").ok()
    assert _carrying(governed, "tx0001") == []
    assert not (governed.home / "state" / "work" / "tx0001-boot").exists()


def _carrying(governed: Governed, txid: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("COMFYGOV_RUN_ID") == f"{governed.home}:{txid}":
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_restart_that_fails_undoes_the_change(governed: Governed) -> None:
    governed.promote_pack("moving")
    pack = governed.root / "packs" / "moving"
    # It works in a trial and not in production: what it looks for is only there.
    spoiled = "import os\nif os.path.exists('../spoil'):\n    os._exit(9)\n"
    (pack / "__init__.py").write_text(spoiled + (pack / "__init__.py").read_text())
    commit_all(pack)
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    try:
        governed.gov("tx", "run", "moving", "--ref", "main").ok()
        before = governed.world()
        (governed.home / "spoil").touch()
        governed.gov("tx", "promote", "2", "--restart").failed(1, "production is again what")
        after = governed.world()
        assert {**after, "head": ""} == {**before, "head": ""}
        assert governed.json("status")["running"] is not None
        assert governed.json("tx", "inspect", "2")["transaction"]["status"] == "promote_failed"
    finally:
        governed.gov("stop").ok()


def test_restart_restarts_whatever_changed(governed: Governed) -> None:
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    try:
        pid = governed.json("status")["running"]["pid"]
        governed.gov("node", "add", str(governed.pack("one"))).ok()
        governed.gov("tx", "run", "one").ok()
        governed.gov("tx", "promote", "1", "--restart").ok()
        running = governed.json("status")["running"]
        assert running["pid"] != pid
        assert running["snapshot"] == governed.head()
        assert "still runs what it was started with" in governed.gov("node", "disable", "one").ok().stderr
    finally:
        governed.gov("stop").ok()


def test_a_package_without_its_files_does_not_start_and_does_not_spread(governed: Governed) -> None:
    next((governed.home / ".venv-prod" / "lib").glob("python3*/site-packages/basis/__init__.py")).unlink()
    governed.gov("run", "--detach").failed(3, "basis/__init__.py is missing", "gov sync")
    governed.wheel("extra", "1.0")
    governed.promote_pack("one", "extra\n")
    assert governed.json("sync")["repaired"] == []
