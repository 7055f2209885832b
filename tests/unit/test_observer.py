"""The observer on every Python that a home may be built on: what it tells, and that programs run as without it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from comfygov.ports import desk
from comfygov.ports.desk import Answer, Desk, Event
from comfygov.trial import watching

ACTS = """
import ctypes, multiprocessing, os, shutil, socket, subprocess, sys, threading
def attempt(do):
    try:
        return do()
    except OSError:
        return None
attempt(lambda: open("/outside/new", "w"))
attempt(lambda: os.remove("/outside/old"))
attempt(lambda: shutil.rmtree("/outside/folder"))
attempt(lambda: open("/outside/__pycache__/x.pyc", "wb"))
attempt(lambda: os.listdir(os.path.expanduser("~/.ssh")))
os.environ.get("MY_API_TOKEN")
attempt(lambda: socket.create_connection(("192.0.2.1", 9), 0.01))
attempt(lambda: ctypes.CDLL("/outside/lib.so"))
threading.Thread(target=lambda: attempt(lambda: open("/outside/thread", "w"))).start()
attempt(lambda: exec(compile("open('/outside/framed', 'w')", CUSTOM + "/other/x.py", "exec")))
subprocess.run([sys.executable, "-c", "import os; os.mkdir('/outside/child')"], stderr=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "wanted"])
spawned = multiprocessing.get_context("spawn").Process(target=os.mkdir, args=("/outside/spawned",))
spawned.start()
spawned.join()
print("ran", sys.version_info[:2])
"""


def interpreter(minor: str) -> str:
    found = [*(Path.home() / ".pyenv" / "versions").glob(f"{minor}.*/bin/python"), shutil.which(f"python{minor}")]
    for path in filter(None, map(str, filter(None, found))):
        said = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
        if said.returncode == 0 and minor.replace(".", ", ") in said.stdout:
            return path
    pytest.skip(f"there is no Python {minor} here")


@pytest.mark.parametrize("minor", ["3.10", "3.11", "3.12", "3.13"])
def test_what_a_pack_does_is_told_on(minor: str, tmp_path: Path) -> None:
    python = interpreter(minor)
    nodes = tmp_path / "custom_nodes"
    (nodes / "loud").mkdir(parents=True)
    (nodes / "loud" / "__init__.py").write_text(f"CUSTOM = {str(nodes)!r}\n{ACTS}")
    asked: list[Event] = []

    def refuse(event: Event) -> Answer:
        asked.append(event)
        return {"exit": 1, "answer": "refused", "said": "no"}

    folder, log = tmp_path / "desk", tmp_path / "events.jsonl"
    environment = {
        "COMFYGOV_DESK": str(folder),
        "COMFYGOV_CUSTOM_NODES": str(nodes),
        "PYTHONPATH": str(desk.PYTHON_PATH),
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    start = f"import sys; sys.path.insert(0, {str(nodes)!r}); import loud"
    with Desk(folder, log, refuse, frozenset({"loud", "other"})):
        done = subprocess.run([python, "-c", start], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "ran" in done.stdout
    assert "not observed" not in done.stderr
    assert [(event.pack, event.requirements) for event in asked] == [("loud", ("wanted",))]
    acts: dict[str, Any] = {entry.pack: entry for entry in watching.summary(watching.read(log), [], [])}
    loud = acts["loud"]
    written = {"new", "thread", "framed", "child", "spawned", "__pycache__/x.pyc"}
    assert {f"/outside/{name}" for name in written} <= {*loud.writes}
    assert {"/outside/old", "/outside/folder"} <= {*loud.deletes}
    assert {"MY_API_TOKEN", str(tmp_path / ".ssh")} <= {*loud.secrets}
    assert "192.0.2.1:9" in loud.connections
    assert any("multiprocessing.spawn" in words for words in loud.processes)
    assert "/outside/lib.so" in loud.libraries
    assert acts["other"].writes == ("/outside/framed",)
