"""Packs that try to do harm: what held, on every sandbox that works on this machine, and production is what it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from comfygov.ports import bubblewrap, landlock
from tests.kit.governed import Governed
from tests.kit.repos import PACK

ATTEMPT = """
import os, shutil, signal, socket, subprocess, sys, time
def attempt(name, do):
    try:
        do()
        print(f"attempt {name}: done", file=sys.stderr, flush=True)
    except BaseException as error:
        print(f"attempt {name}: held {error!r}", file=sys.stderr, flush=True)
"""
BOXES = [
    pytest.param("bwrap", marks=pytest.mark.skipif(bool(bubblewrap.refusal()), reason="bubblewrap does not work here")),
    pytest.param("landlock", marks=pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")),
]


def settings(home: Governed, **tx: str) -> None:
    path = home.home / "config.toml"
    lines = "".join(f'{name} = "{value}"\n' for name, value in tx.items())
    path.write_text(f"{path.read_text()}\n[tx]\n{lines}")


def bits(home: Governed) -> dict[str, tuple[int, int, str]]:
    """Rights, time and content of all that is production, and of the person's own files."""
    places = [home.root / "user", *(home.home / name for name in ("ComfyUI", "models", ".venvs", "snapshots"))]
    files = [
        home.home / name
        for name in ("config.toml", "pyproject.toml", "uv.lock", "state/head.json", "state/plugins.json")
    ]
    for place in places:
        files += [place, *sorted(place.rglob("*"))]
    found = {}
    for path in files:
        if path.exists():
            facts = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (facts.st_mode, facts.st_mtime_ns, content)
    return found


def tried(home: Governed, code: str, **options: Any) -> tuple[dict[str, Any], str]:
    """The record of a trial of a pack that runs `code` at import, and what it said; production is what it was."""
    text = ATTEMPT + code + PACK % {"name": "nasty"}
    home.gov("node", "add", str(home.pack("nasty", files={"__init__.py": text}, **options))).ok()
    before, bits_before = home.world(), bits(home)
    ran = home.gov("--json", "tx", "run", "nasty")
    assert ran.exit_code in (0, 1), ran
    assert home.world() == before
    assert bits(home) == bits_before
    tx: dict[str, Any] = home.json("tx", "inspect", "tx0001")["transaction"]
    return tx, (home.home / tx["logs"]["stderr"]).read_text()


def outcomes(log: str) -> dict[str, str]:
    lines = [line.removeprefix("attempt ").split(": ", 1) for line in log.splitlines() if line.startswith("attempt ")]
    return {name: rest.split()[0] for name, rest in lines}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody on this machine who must not be reached, and says so when it happens."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made


@pytest.mark.parametrize("box", BOXES)
def test_a_pack_reaches_nothing_of_the_persons(box: str, governed: Governed, listener: socket.socket) -> None:
    user = governed.root / "user"
    (user / ".ssh").mkdir(parents=True, exist_ok=True)
    (user / ".ssh" / "id").write_text("the key")
    (user / "keep").write_text("theirs")
    settings(governed, sandbox=box, network="deny")
    home, models = governed.home, governed.home / "models"
    (models / "m.safetensors").write_text("weights")
    caught: list[object] = []

    def catch() -> None:
        with contextlib.suppress(OSError):  # the test is over, and its socket closed
            caught.append(listener.accept())

    threading.Thread(target=catch, daemon=True).start()
    code = f"""
attempt("read the key", lambda: open({str(user / ".ssh" / "id")!r}).read())
attempt("write to home", lambda: open({str(user / "new")!r}, "w").write("x"))
attempt("delete at home", lambda: os.remove({str(user / "keep")!r}))
attempt("write to production", lambda: open({str(home / "ComfyUI" / "x.py")!r}, "w"))
attempt("change head", lambda: open({str(home / "state" / "head.json")!r}, "a"))
attempt("delete models", lambda: shutil.rmtree({str(models)!r}))
attempt("read a model", lambda: open({str(models / "m.safetensors")!r}).read())
attempt("edit a package", lambda: open(__import__("basis").__file__, "a").write("x"))
attempt("leave a pth", lambda: open(os.path.join(os.path.dirname(os.__file__), "x.pth"), "w"))
attempt("have the kernel start it", lambda: open("/proc/sys/kernel/core_pattern", "r+"))
attempt("rights", lambda: os.chmod({str(models)!r}, 0))
attempt("times", lambda: os.utime({str(home / "state" / "head.json")!r}, (1, 1)))
attempt("connect", lambda: socket.create_connection({listener.getsockname()!r}, 2))
attempt("call home", lambda: socket.create_connection(("192.0.2.1", 9), 1))
attempt("send", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
attempt("write its own", lambda: open(os.path.join(os.path.dirname(__file__), "cache"), "w").write("x"))
attempt("serve itself", lambda: None)
"""
    tx, log = tried(governed, code)
    assert tx["status"] == "completed", log
    done = {name for name, how in outcomes(log).items() if how == "done"} - {"rights", "times"}  # Landlock pretends
    assert done == {"read a model", "write its own", "serve itself"}, log
    assert not caught
    [seen] = tx["observed"]["acts"]
    assert str(user / ".ssh" / "id") in seen["secrets"]
    assert {str(user / "new"), str(home / "ComfyUI" / "x.py")} <= {*seen["writes"]}
    assert {str(user / "keep"), str(models)} <= {*seen["deletes"]}
    assert "192.0.2.1:9" in seen["connections"]
    assert (user / "keep").read_text() == "theirs"
    assert tx["observed"]["sandbox"] == box
    assert tx["observed"]["sandbox_holds"]
    assert "held: " in governed.gov("tx", "inspect", tx["txid"]).stdout


@pytest.mark.parametrize("box", BOXES)
def test_nothing_outlives_a_trial(box: str, governed: Governed) -> None:
    settings(governed, sandbox=box)
    daemon = "import os, time; os.fork() and os._exit(0); os.setsid(); os.environ.clear(); time.sleep(397)"
    code = f"""
attempt("daemon", lambda: subprocess.run([sys.executable, "-I", "-c", {daemon!r}], env={{}}, close_fds=True))
attempt("parent", lambda: os.kill(os.getppid(), 0))
"""
    tx, log = tried(governed, code)
    assert tx["status"] == "completed", log
    assert outcomes(log)["daemon"] == "done"
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in left if words and "time.sleep(397)" in " ".join(words)]


@pytest.mark.parametrize("box", BOXES)
def test_a_pack_that_eats_memory_is_ended_and_named(box: str, governed: Governed) -> None:
    settings(governed, sandbox=box, memory_limit="300M")
    code = "hoard = []\nfor _ in range(40):\n    hoard.append(bytearray(os.urandom(1 << 20) * 50)); time.sleep(0.05)\n"
    tx, log = tried(governed, code)
    assert tx["status"] == "failed", log
    assert "more than 0.3 GiB of memory" in tx["error"]


@pytest.mark.parametrize("box", BOXES)
def test_a_fork_bomb_ends_with_the_trial(box: str, governed: Governed) -> None:
    """It is bounded by itself too, so that a test that fails leaves a machine that works."""
    settings(governed, sandbox=box)
    mark = f"comfygov-bomb-{os.urandom(6).hex()}"  # the other box's bomb may burn beside this one
    bomb = f"import os, time\nfor _ in range(8): os.fork()\ntime.sleep(398)  # {mark}"
    code = f"""
attempt("bomb", lambda: subprocess.Popen([sys.executable, "-I", "-c", {bomb!r}]))
time.sleep(1)
"""
    tx, log = tried(governed, code)
    assert outcomes(log)["bomb"] == "done"
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in left if words and mark in " ".join(words)]
    assert tx["status"] in ("completed", "failed")


def test_a_pack_that_hangs_at_import_is_ended(governed: Governed) -> None:
    text = "import time\ntime.sleep(399)\n" + PACK % {"name": "nasty"}
    governed.gov("node", "add", str(governed.pack("nasty", files={"__init__.py": text}))).ok()
    started = time.monotonic()
    governed.gov("tx", "run", "nasty", "--timeout", "3").failed(1, "did not become ready")
    assert time.monotonic() - started < 60


def test_a_pack_that_kills_itself_is_a_failed_trial(governed: Governed) -> None:
    tx, _ = tried(governed, "os.kill(os.getpid(), signal.SIGKILL)\n")
    assert tx["status"] == "failed"
    assert "signal 9" in tx["error"]


@pytest.mark.parametrize("box", BOXES)
def test_a_pack_that_kills_its_parent_and_everybody_else_ends_itself(box: str, governed: Governed) -> None:
    """The command that runs the trial, and whoever else is here, go on."""
    settings(governed, sandbox=box)
    code = """
attempt("parent", lambda: os.kill(os.getppid(), signal.SIGKILL))
attempt("all", lambda: os.kill(-1, signal.SIGKILL))
"""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        tx, _ = tried(governed, code)
        assert bystander.poll() is None
        bystander.kill()
    assert tx["status"] in ("completed", "failed")


def test_a_torch_that_a_pack_installs_is_not_in_production(governed: Governed) -> None:
    governed.wheel("torch", "9.0")
    code = 'attempt("torch", lambda: subprocess.check_call([sys.executable, "-m", "pip", "install", "torch"]))\n'
    tx, _ = tried(governed, code)
    assert [package["name"] for package in tx["core_impact"]["added"]] == ["torch"]
    governed.gov("tx", "promote", tx["txid"]).failed(1, "--approve-core")


def test_what_is_asked_for_and_not_there_is_an_error(governed: Governed, tmp_path: Path) -> None:
    settings(governed, sandbox="bwrap")
    (tmp_path / "bin").mkdir()
    for tool in ("git", "python3", "sh", "env", "true"):
        (tmp_path / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
    governed.env["PATH"] = str(tmp_path / "bin")
    governed.gov("node", "add", str(governed.pack("plain"))).ok()
    governed.gov("tx", "run", "plain").failed(1, "bubblewrap", "not installed")


def test_an_amount_of_memory_is_checked(governed: Governed) -> None:
    settings(governed, memory_limit="lots")
    governed.gov("status").failed(2, "memory_limit")


def test_the_record_says_what_did_not_hold(governed: Governed) -> None:
    settings(governed, sandbox="none")
    tx, _ = tried(governed, "")
    assert tx["observed"]["sandbox"] == "none"
    assert tx["observed"]["sandbox_does_not_hold"] == ["anything that you can do yourself"]
    assert "without a sandbox" in json.dumps(tx["gates"])
