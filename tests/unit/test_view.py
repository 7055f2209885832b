"""What a trial sees, how much it may take, and how installers' command lines are read."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from comfygov.model.tx import InstallRequest
from comfygov.ops import doctor_sandbox
from comfygov.ports import desk, fs
from comfygov.trial import limits, sandbox, watching
from comfygov.trial.view import View, view


def test_the_longer_path_says_whether_a_file_is_seen(tmp_path: Path) -> None:
    seen = View(hidden=(tmp_path, tmp_path / "a" / "b"), shown=(tmp_path / "a",))
    assert not seen.sees(tmp_path / "x")
    assert seen.sees(tmp_path / "a" / "x")
    assert not seen.sees(tmp_path / "a" / "b" / "x")
    assert seen.sees(Path("/usr"))


def test_what_can_be_read_is_the_fewest_places_that_hold_it(tmp_path: Path) -> None:
    for name in ("open", "home/work/tree", "home/work/secret", "home/ssh"):
        (tmp_path / name).mkdir(parents=True)
    seen = View(hidden=(tmp_path / "home", tmp_path / "home/work/secret"), shown=(tmp_path / "home/work",))
    assert set(seen.readable(tmp_path)) == {tmp_path / "open", tmp_path / "home/work/tree"}


def test_a_whole_home_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("bin", "lib", ".ssh"):
        (tmp_path / name).mkdir()
    seen = view([tmp_path])
    assert seen.sees(tmp_path / "bin" / "python")
    assert not seen.sees(tmp_path / ".ssh" / "id")
    assert not seen.sees(tmp_path)


def test_files_of_a_persons_own_command_are_seen(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    script = tmp_path / "project" / "check.py"
    script.write_text("")
    loose = tmp_path / "check.sh"
    loose.write_text("")
    seen = View(hidden=(tmp_path,)).with_arguments(["/usr/bin/env", str(script), str(loose)])
    assert seen.sees(tmp_path / "project" / "helper.py")
    assert seen.sees(loose)
    assert not seen.sees(tmp_path / "token")


@pytest.mark.parametrize(
    ("text", "amount"), [("16G", 16 << 30), ("1.5 GiB", 3 << 29), ("800M", 800 << 20), ("none", 0)]
)
def test_an_amount_of_memory(text: str, amount: int) -> None:
    assert limits.memory_bytes(text) == amount


def test_a_share_of_the_memory() -> None:
    assert 0 < limits.memory_bytes("50%") < limits.memory_bytes("100%")


@pytest.mark.parametrize(
    ("form", "argv", "expected"),
    [
        ("pip", ["install", "-q", "a>=1", "-U", "b"], ["a>=1", "b"]),
        ("pip", ["--isolated", "install", "--index-url", "x", "a"], ["a"]),
        ("pip", ["install", "--index-url=x", "a", "-e", "."], ["a", "-e ."]),
        ("uv", ["pip", "install", "--python", "p", "a"], ["a"]),
        ("conda", ["install", "-y", "-c", "forge", "a"], ["a"]),
        ("easy_install", ["a"], ["a"]),
    ],
)
def test_what_an_installer_was_asked_for(
    form: str, argv: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(desk.PYTHON_PATH))
    installs: Any = __import__("comfygov_installs")
    wish = installs.understand(form, argv)
    assert wish["requirements"] == expected
    assert wish["command"] == "install"


def test_packs_are_shown_with_the_worst_first() -> None:
    events = [
        desk.Event("process", "mild", "git"),
        desk.Event("secret", "bad", "HF_TOKEN"),
        desk.Event("delete", "framed", "/models", through=("bad",)),
        desk.Event("delete", "bad", "/models/x"),
        desk.Event("connect", "none", "127.0.0.1:80"),
        desk.Event("write", "none", "/own/tmp/x"),
    ]
    found = watching.summary(events, [InstallRequest("asks", "pip")], ["/own/tmp/"])
    assert [acts.pack for acts in found] == ["bad", "framed", "asks", "mild"]
    assert found[0].deletes == ("/models",)


@pytest.mark.skipif(sys.platform != "linux", reason="the others have no sandbox")
def test_the_machine_says_what_it_can_do() -> None:
    report = doctor_sandbox.report()
    assert report.chosen in ("bwrap", "landlock", "none")
    assert report.advice == () or report.chosen != "bwrap"


@pytest.mark.parametrize("name", ["bwrap", "landlock"])
def test_gpus_are_there_unless_they_are_not_wanted(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox, "_GPU_DEVICES", ("nul[l]",))
    monkeypatch.setattr(sandbox, "_PLAIN_DEVICES", ("zero",))
    assert "/dev/null" in sandbox.Sandbox(name).wrap(["x"], [tmp_path])
    assert "/dev/null" not in sandbox.Sandbox(name, gpu=False).wrap(["x"], [tmp_path])


def test_who_fills_the_disk_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reserve is what is free now but for 200 MB, so that some more of it fill the disk."""
    monkeypatch.setattr(limits, "_DISK_RESERVE_BYTES", fs.free_bytes(tmp_path) - (200 << 20))
    code = "import time\nwith open('big', 'wb') as f:\n    while True: f.write(b'x' * (8 << 20)); time.sleep(0.01)"
    bounds = limits.Limits()
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    with bounds.watched(lambda: {child.pid}, tmp_path, child.kill):
        assert child.wait(60) == -9
    assert "filled the disk" in bounds.broken
    (tmp_path / "big").unlink()


@pytest.mark.parametrize(
    ("to", "is_shown"),
    [
        ("127.0.0.1:8188", False),
        ("::1:8188", False),
        ("localhost:443", False),
        ("localhost.example.org:443", True),
        ("127.example.org:443", True),
        ("unix:/own/tmp/listener", False),
        ("unix:/run/docker.sock", True),
    ],
)
def test_only_what_stays_in_the_trial_is_no_connection(to: str, is_shown: bool) -> None:
    acts = watching.summary([desk.Event("connect", "loud", to)], [], ["/own/tmp/"])
    assert [entry.connections for entry in acts] == ([(to,)] if is_shown else [])


def test_who_prints_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it printed stays on the disk that production lies on."""
    monkeypatch.setattr(limits, "_MAX_PRINTED_BYTES", 1 << 20)
    (tmp_path / "log").write_bytes(bytes(2 << 20))
    ended, bounds = threading.Event(), limits.Limits()
    with bounds.watched(set, tmp_path, ended.set, [tmp_path / "log", tmp_path / "none"]):
        assert ended.wait(10)
    assert "printed more than 1 MiB" in bounds.broken
