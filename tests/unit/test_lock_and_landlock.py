"""The lock of a home between real processes, and what a confined process can do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comfygov.errors import Code
from comfygov.ports import landlock, lock
from comfygov.trial.sandbox import Sandbox, choose

from .conftest import Refused

HOLD = """
import sys, time
from pathlib import Path
from comfygov.ports import lock
with lock.exclusive(Path(sys.argv[1]), "gov node add x", 0):
    print("held", flush=True)
    time.sleep(60)
"""
Hold = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "home.lock"


@pytest.fixture
def hold(path: Path) -> Iterator[Hold]:
    children: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_busy_names_the_holder(path: Path, hold: Hold, refused: Refused) -> None:
    child = hold()
    started = time.monotonic()
    with refused(Code.BUSY) as caught, lock.exclusive(path, "gov x", 0.3):
        pass
    assert 0.2 < time.monotonic() - started < 10
    assert caught.value.exit_code == 6
    assert "`gov node add x`" in caught.value.message
    assert f"pid {child.pid}" in caught.value.message
    found = lock.holder(path)
    assert found is not None
    assert (found.pid, found.command) == (child.pid, "gov node add x")


def test_a_killed_holder_frees_the_lock(path: Path, hold: Hold) -> None:
    child = hold()
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    assert lock.holder(path) is None
    with lock.exclusive(path, "gov x", 0):
        pass
    hold()


def test_a_waiter_gets_the_lock_when_it_is_free(path: Path, hold: Hold) -> None:
    child = hold()
    subprocess.Popen(["sh", "-c", f"sleep 0.3; kill {child.pid}"]).wait(10)
    with lock.exclusive(path, "gov x", 10):
        found = lock.holder(path)
        assert found is not None
        assert found.pid == os.getpid()
    assert path.read_bytes() == b""


def test_an_error_inside_frees_the_lock(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.exclusive(path, "gov x", 0):
        raise ZeroDivisionError
    assert lock.holder(path) is None


def test_a_child_that_outlives_its_killed_command_is_said(path: Path, refused: Refused) -> None:
    leave = HOLD.replace("time.sleep(60)", "import subprocess; subprocess.Popen(['sleep', '30'], pass_fds=tuple("
                         "lock.process.held_open), stdout=2); import os; os.kill(os.getpid(), 9)")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", leave, str(path)], start_new_session=True) as killed:
        killed.wait()
    try:
        with refused(Code.BUSY) as caught, lock.exclusive(path, "gov x", 0.1):
            pass
        assert f"(pid {killed.pid}" in caught.value.message
        assert "before it was killed" in caught.value.message
    finally:
        os.killpg(killed.pid, signal.SIGKILL)


def test_a_child_that_outlives_its_killed_command_is_waited_for(path: Path) -> None:
    """Two seconds of work that a dead command has started, and half a second of patience with the living."""
    leave = HOLD.replace("time.sleep(60)", "import subprocess; subprocess.Popen(['sleep', '2'], pass_fds=tuple("
                         "lock.process.held_open), stdout=2); import os; os.kill(os.getpid(), 9)")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", leave, str(path)], start_new_session=True) as killed:
        killed.wait()
    assert lock.holder(path) is not None
    with lock.exclusive(path, "gov x", 0.5):
        found = lock.holder(path)
        assert found is not None
        assert found.command == "gov x"


def test_a_holder_without_a_name_yet_is_busy_all_the_same(path: Path, hold: Hold, refused: Refused) -> None:
    hold()
    path.write_bytes(b"{")
    with refused(Code.BUSY) as caught, lock.exclusive(path, "gov x", 0):
        pass
    assert "another command is changing it" in caught.value.message


def test_nobody_holds_a_lock_that_was_never_taken(path: Path) -> None:
    assert lock.holder(path) is None
    assert not path.exists()


def test_a_child_of_the_holder_does_not_hold_it(path: Path) -> None:
    with lock.exclusive(path, "gov x", 0):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    assert lock.holder(path) is None
    child.kill()
    child.wait(10)


needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")


def test_no_sandbox_is_no_wrapping(tmp_path: Path) -> None:
    assert choose("none") == Sandbox("none")
    assert Sandbox("none").wrap(["x", "-y"], [tmp_path]) == ["x", "-y"]
    assert not Sandbox("none").protects_environment


class Box:
    """One folder that may be written, beside others."""

    def __init__(self, root: Path) -> None:
        self.inside, self.outside = root / "inside", root / "outside"
        for folder in (self.inside, self.outside):
            folder.mkdir()
        self.file = self.outside / "file"
        self.file.write_text("theirs")

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        argv = Sandbox("landlock").wrap([sys.executable, "-I", "-c", f"import os\n{code}"], [self.inside])
        return subprocess.run(argv, cwd=self.inside, capture_output=True, text=True, timeout=60)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@needs_landlock
def test_a_child_writes_where_it_may(box: Box) -> None:
    assert choose("auto").protects_environment
    code = "os.mkdir('d'); open('d/x', 'w').write('1'); os.rename('d/x', 'y'); os.symlink('y', 'z')\n"
    code += "os.truncate('y', 0); os.unlink('z'); os.rmdir('d'); open('/dev/null', 'w').write('x')"
    done = box.python(code)
    assert done.returncode == 0, done.stderr
    assert os.listdir(box.inside) == ["y"]


@needs_landlock
@pytest.mark.parametrize(
    "code",
    [
        "open('../outside/file', 'w')",
        "open('../outside/file', 'a')",
        "open('../outside/new', 'w')",
        "os.truncate('../outside/file', 0)",
        "os.unlink('../outside/file')",
        "os.mkdir('../outside/d')",
        "os.symlink('x', '../outside/l')",
        "os.rename('../outside/file', 'file')",
        "os.link('../outside/file', 'file'); open('file', 'w')",
        "os.symlink('../outside/file', 'l'); open('l', 'w')",
        "import subprocess; subprocess.run(['sh', '-c', 'echo x > ../outside/file'], check=True)",
    ],
)
def test_a_child_changes_nothing_elsewhere(code: str, box: Box) -> None:
    if "truncate" in code and landlock.abi() < 3:
        pytest.skip("this kernel's Landlock does not handle truncate")
    assert box.python(code).returncode != 0
    assert box.file.read_text() == "theirs"
    assert os.listdir(box.outside) == ["file"]


@needs_landlock
@pytest.mark.skipif(not landlock.can_filter(), reason="this machine's system calls are not known")
@pytest.mark.parametrize(
    "code",
    [
        "os.chmod('../outside/file', 0)",
        "os.chmod('../outside', 0)",
        "os.fchmod(os.open('../outside/file', os.O_RDONLY), 0)",
        "os.utime('../outside/file', (1, 1))",
        "os.chown('../outside/file', 1234, 1234)",
        "os.setxattr('../outside/file', 'user.x', b'1')",
        "import subprocess; subprocess.run(['chmod', '0', '../outside/file'], check=True)",
    ],
)
def test_rights_owners_and_times_stay_and_nobody_fails_for_it(code: str, box: Box) -> None:
    before = (box.file.stat(), os.listxattr(box.file), box.outside.stat().st_mode)
    done = box.python(code)
    assert done.returncode == 0, done.stderr
    assert (box.file.stat(), os.listxattr(box.file), box.outside.stat().st_mode) == before


@needs_landlock
@pytest.mark.parametrize(
    "code",
    [
        "import stat; os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0))",
        "import stat; os.mknod('memory', 0o600 | stat.S_IFCHR, os.makedev(1, 1))",
        "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (4, 4))",
        "open('/proc/sys/kernel/core_pattern', 'r+')",
        "open(f'/proc/{os.getppid()}/environ')",
        "open(f'/proc/{os.getppid()}/mem', 'r+b')",
    ],
)
def test_what_root_may_do_besides_is_held(code: str, box: Box) -> None:
    assert "Error" in box.python(code).stderr


@needs_landlock
@pytest.mark.skipif(not landlock.can_filter(), reason="this machine's system calls are not known")
@pytest.mark.parametrize(
    "code",
    [
        "socket.create_connection(PLACE, 2).sendall(b'x')",
        "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.settimeout(2); s.connect(PLACE); s.send(b'x')",
        "s = socket.socket(); s.settimeout(2); s.sendto(b'x', 0x20000000, PLACE)",
        "s = socket.socket(); s.settimeout(2); s.sendmsg([b'x'], [], 0x20000000, PLACE)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', PLACE)",
        "socket.socket(43, socket.SOCK_STREAM, 0).connect(PLACE)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    ],
    ids=["tcp", "mptcp", "fast-open", "fast-open-message", "udp", "smc", "raw"],
)
def test_no_way_leads_to_a_network_that_is_denied(code: str, box: Box) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        whole = f"import socket\nPLACE = {server.getsockname()!r}\n{code}"
        argv = Sandbox("landlock", "deny").wrap([sys.executable, "-I", "-c", whole], [box.inside])
        done = subprocess.run(argv, cwd=box.inside, capture_output=True, text=True, timeout=60)
        assert "Error" in done.stderr
        with pytest.raises(TimeoutError):
            server.accept()


@needs_landlock
def test_what_a_comfyui_needs_of_a_denied_network_works(box: Box) -> None:
    code = "import asyncio, os, socket\na, b = socket.socketpair(); a.sendmsg([b'x']); assert b.recv(1) == b'x'\n"
    code += "s = socket.socket(socket.AF_UNIX); s.bind('here'); asyncio.run(asyncio.sleep(0))\n"
    code += "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); print(socket.if_nameindex())"
    argv = Sandbox("landlock", "deny").wrap([sys.executable, "-I", "-c", code], [box.inside])
    done = subprocess.run(argv, cwd=box.inside, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@needs_landlock
def test_a_file_that_shares_its_bytes_is_read_only_by_its_path_outside(box: Box) -> None:
    """What is linked into a folder that may be written can be changed: links must never lead there."""
    (box.inside / "shared").hardlink_to(box.file)
    assert box.python("open('../outside/file', 'w')").returncode != 0
    assert box.file.read_text() == "theirs"
    assert box.python("open('shared', 'w').write('changed')").returncode == 0
    assert box.file.read_text() == "changed"


@needs_landlock
def test_the_exit_code_is_that_of_the_command(box: Box) -> None:
    assert box.python("raise SystemExit(7)").returncode == 7
