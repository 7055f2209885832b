"""Children: what they inherit, how long they may take, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from comfygov.errors import Code
from comfygov.ports import identity, lock, process

from .conftest import Refused

SECONDS = f"300.{os.getpid()}"
"""Nobody else sleeps that long: tests run beside each other."""
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (0, 1, 2): os.close(number)
        ARGV = ["sleep", SECONDS]
        os.execvpe("sleep", ARGV, {"PATH": os.environ["PATH"]} if FORGET else os.environ)
    os._exit(0)
os.wait()
time.sleep(300)
"""


def test_what_redirects_python_tools_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ("UV_PYTHON", "UV_OFFLINE", "PIP_INDEX_URL", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX")
    kept = ("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "HTTPS_PROXY", "MY_OWN")
    for name in (*gone, *kept):
        monkeypatch.setenv(name, "x")
    done = process.run(["env"])
    names = {line.split("=")[0] for line in done.stdout.splitlines()}
    assert not names & set(gone)
    assert set(kept) <= names


def test_what_is_given_wins_and_none_removes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN", "x")
    found = process.child_environment({"UV_PYTHON": "given", "MY_OWN": None, "NEVER_SET": None})
    assert found["UV_PYTHON"] == "given"
    assert "MY_OWN" not in found


def test_a_child_is_heard_and_judged_by_the_caller() -> None:
    done = process.run(["sh", "-c", "echo out; echo err >&2; printf '\\377' ; exit 3"])
    assert (done.exit_code, done.stdout, done.stderr) == (3, "out\n\ufffd", "err\n")
    assert done.words.startswith("err\nout")
    assert process.run(["sh", "-c", "kill -9 $$"]).exit_code == -9
    assert process.run(["cat"]).stdout == ""


def test_arguments_are_never_a_shell_string(tmp_path: Path) -> None:
    assert process.run(["printf", "%s", "$(id); `id` | x > y"], cwd=tmp_path).stdout == "$(id); `id` | x > y"


def test_a_program_that_is_not_there_is_said(refused: Refused) -> None:
    with refused(Code.TOOL_MISSING) as caught:
        process.run(["no-such-program-at-all"])
    assert "no-such-program-at-all" in caught.value.message


def test_a_folder_that_is_not_there_is_not_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="gone"):
        process.run(["true"], cwd=tmp_path / "gone")


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_program_that_cannot_be_run_is_a_sentence(mode: int, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "tool").write_text("no program\n")
    (tmp_path / "tool").chmod(mode)
    with refused(Code.TOOL_FAILED):
        process.run([str(tmp_path / "tool")])


def alive(pid: int) -> bool:
    return identity.started_at(pid) is not None


def dies(pid: int) -> bool:
    """A killed process closes its pipes a moment before it is gone."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not alive(pid):
            return True
        time.sleep(0.01)
    return False


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.is_file() and path.read_text().endswith("\n"):
            return path.read_text().strip()
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def test_a_timeout_ends_the_child_and_its_group(tmp_path: Path, refused: Refused) -> None:
    started = time.monotonic()
    with refused(Code.TIMEOUT):
        process.run(["sh", "-c", "sleep 300 & echo $! > pid; wait"], cwd=tmp_path, timeout_seconds=0.5)
    assert time.monotonic() - started < 20
    assert dies(int(wait_for(tmp_path / "pid")))


def test_a_timeout_holds_for_a_child_that_left_the_group(tmp_path: Path, refused: Refused) -> None:
    started = time.monotonic()
    with refused(Code.TIMEOUT):
        process.run(["sh", "-c", "setsid sleep 60 & sleep 300"], cwd=tmp_path, timeout_seconds=0.2)
    assert time.monotonic() - started < 40


def service(tmp_path: Path, code: str, run_id: str) -> process.Service:
    return process.start_service(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=process.child_environment(),
        run_id=run_id,
        stdout=tmp_path / "out.log",
    )


def test_a_service_writes_to_its_log_and_ends_on_the_first_signal(tmp_path: Path) -> None:
    started = service(tmp_path, "import time; print('up', flush=True); time.sleep(300)", "t-first")
    assert wait_for(tmp_path / "out.log") == "up"
    assert started.exit_code() is None
    assert started.wait(0.01) is None
    assert identity.is_same_process(started.pid, identity.started_at(started.pid) or 0)
    assert not identity.is_same_process(started.pid, 1.0)
    assert started.stop(signal.SIGTERM, 10) == -signal.SIGTERM
    assert not alive(started.pid)


def test_a_service_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
    started = service(tmp_path, code, "t-ignores")
    wait_for(tmp_path / "out.log")
    assert started.stop(signal.SIGTERM, 0.3) == -signal.SIGKILL
    assert not alive(started.pid)


def daemon_of(pid: int) -> psutil.Process:
    """The sleep that left the tree: its session is none of ours and its parent is not the root."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for found in psutil.process_iter(["cmdline"]):
            young = (identity.started_at(found.pid) or 0) >= (identity.started_at(pid) or 0)
            if young and found.info["cmdline"] == ["sleep", SECONDS] and os.getsid(found.pid) not in (pid, found.pid):
                return found
        time.sleep(0.01)
    raise AssertionError("no daemon")


@pytest.mark.parametrize(
    "forgets",
    [
        False,
        True,
    ],
)
def test_a_daemonised_child_ends_with_the_tree(tmp_path: Path, *, forgets: bool) -> None:
    process.become_subreaper()
    started = service(tmp_path, f"FORGET, SECONDS = {forgets}, {SECONDS!r}\n{DAEMON}", f"t-daemon-{forgets}")
    daemon = daemon_of(started.pid)
    try:
        started.stop(signal.SIGTERM, 5)
        assert not alive(daemon.pid)
        assert not process.members(started.pid, started.run_id)
    finally:
        if alive(daemon.pid):
            daemon.kill()


def test_a_service_that_cannot_start_is_said(tmp_path: Path, refused: Refused) -> None:
    with refused(Code.TOOL_MISSING):
        process.start_service(["/no/such"], cwd=tmp_path, env={}, run_id="t", stdout=tmp_path / "log")


def test_the_dead_and_the_never_born_have_no_start() -> None:
    done = process.run(["sh", "-c", "echo $$"])
    assert identity.started_at(int(done.stdout)) is None
    assert not identity.is_same_process(int(done.stdout), time.time())


def test_children_start_while_locks_of_other_threads_come_and_go(tmp_path: Path) -> None:
    """A lock's descriptor is handed to children: it may not be closed between its listing and their start."""

    done = threading.Event()

    def lock_often() -> None:
        while not done.is_set():
            with lock.exclusive(tmp_path / f"{threading.get_ident()}.lock", "test", 1.0):
                pass

    def start_often() -> list[int]:
        return [process.run(["true"]).exit_code for _ in range(100)]

    with ThreadPoolExecutor() as pool:
        lockers = [pool.submit(lock_often) for _ in range(2)]
        try:
            starters = [pool.submit(start_often) for _ in range(2)]
            assert [starter.result() for starter in starters] == [[0] * 100] * 2
        finally:
            done.set()
        assert [locker.result() for locker in lockers] == [None, None]


@pytest.mark.parametrize("holds_locks", [True, False])
def test_a_child_holds_our_locks_unless_its_work_is_its_own(tmp_path: Path, *, holds_locks: bool) -> None:
    looks = "import os, sys; os.fstat(int(sys.argv[1]))"
    with lock.exclusive(tmp_path / "home.lock", "gov x", 1):
        (descriptor,) = process.held_open
        done = process.run([sys.executable, "-c", looks, str(descriptor)], holds_locks=holds_locks)
    assert (done.exit_code == 0) == holds_locks
