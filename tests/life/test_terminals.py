"""Terminals that are narrow, speak no UTF-8, or are none."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.governed import Governed


@pytest.fixture(scope="session")
def latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a terminal that speaks ISO 8859-1."""
    place = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-f", "ISO-8859-1", "-i", "en_US", str(place / "en_US.ISO-8859-1")]
    try:
        subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("localedef is not here")
    variables = {"LOCPATH": str(place), "LC_ALL": "en_US.ISO-8859-1"}
    said = subprocess.check_output(
        [sys.executable, "-I", "-c", "import sys; print(sys.stdout.encoding)"], env=os.environ | variables, text=True
    )
    if "8859" not in said:
        pytest.skip("this system makes no such locale")
    return variables


def test_a_terminal_without_utf8_gets_text_and_programs_get_utf8(governed: Governed, latin: dict[str, str]) -> None:
    governed.gov("snapshot", "create", "--reason", "日本 é").ok()
    said = printed(governed, latin, "snapshot", "list").decode("iso-8859-1")
    assert "?? é" in said
    envelope = json.loads(printed(governed, latin, "--json", "snapshot", "list").decode("utf-8"))
    assert envelope["data"]["snapshots"][-1]["reason"] == "日本 é"


def printed(governed: Governed, variables: dict[str, str], *arguments: str) -> bytes:
    command = [sys.executable, "-I", "-m", "comfygov", *arguments]
    environment = governed.environment() | variables
    return subprocess.run(command, env=environment, cwd=governed.root, capture_output=True, check=True).stdout


def on_terminal(governed: Governed, *arguments: str, columns: int) -> tuple[int, str]:
    """The exit code, and everything that a terminal of that width got."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", "comfygov", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=governed.environment() | {"COLUMNS": str(columns), "TERM": "xterm"},
        close_fds=True,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says EIO when nobody holds the other end any more
            break
        if not part:
            break
        said += part
    os.close(ours)
    return child.wait(timeout=60), said.decode()


def test_forty_columns_are_enough(governed: Governed) -> None:
    for arguments in (("--help",), ("tx", "run", "--help"), ("status",), ("tx", "list"), ("node", "list")):
        code, said = on_terminal(governed, *arguments, columns=40)
        assert code == 0, said
    _, said = on_terminal(governed, "--help", columns=40)
    assert max(len(line) for line in said.splitlines() if not line.startswith(("  Start", "  A change"))) <= 60


def test_a_terminal_that_is_none_gets_no_control_signs(governed: Governed, tmp_path: Path) -> None:
    ran = governed.gov("tx", "run", "--dep", "basis").ok()
    assert "\x1b" not in ran.stdout + ran.stderr
    assert "\r" not in ran.stderr
    governed.env["TERM"] = "dumb"
    code, said = on_terminal(governed, "verify", columns=80)
    assert code == 0
    assert "\x1b" not in said
