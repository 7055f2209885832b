"""`gov resolve` asks for pins on a terminal: what its keys do."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.governed import Governed

_PROMPT = b"ends): "
_DEADLINE_SECONDS = 60.0


def typed(governed: Governed, *keys: bytes) -> tuple[int, str]:
    """Exit code and screen of `gov resolve 1` on a terminal of its own; each of `keys` answers one question."""
    keyboard, terminal = pty.openpty()
    # setsid -c makes it the controlling terminal: without one Ctrl-C is no signal.
    argv = ["setsid", "--ctty", "--wait", *governed.program, "resolve", "1"]
    child = subprocess.Popen(argv, env=governed.environment(), stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    screen, left = b"", list(keys)
    until = time.monotonic() + _DEADLINE_SECONDS
    try:
        while time.monotonic() < until:
            if not select.select([keyboard], [], [], 0.2)[0]:
                continue
            try:
                new = os.read(keyboard, 4096)
            except OSError:  # Linux says so when the last program that had the terminal is gone
                break
            screen += new
            if left and screen.count(_PROMPT) > len(keys) - len(left):
                os.write(keyboard, left.pop(0))
        return child.wait(max(1.0, until - time.monotonic())), screen.decode(errors="replace")
    finally:
        child.kill()
        os.close(keyboard)


@pytest.mark.skipif(not shutil.which("setsid"), reason="no setsid to give a command a terminal of its own")
def test_the_list_ends_with_an_empty_line_or_ctrl_d_and_ctrl_c_changes_nothing(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    governed.gov("node", "add", str(governed.pack("new", "thing=>0.1\n"))).ok()
    governed.gov("tx", "run", "new").failed(4, "likely meant")
    record = governed.home / "state" / "transactions" / "tx0001.json"
    before = record.read_bytes()
    exit_code, screen = typed(governed, b"thing==1.0\n", b"\x03")
    assert (exit_code, "error: interrupted" in screen) == (130, True), screen
    exit_code, screen = typed(governed, b"\x04")
    assert (exit_code, "error: nothing is pinned" in screen) == (2, True), screen
    assert record.read_bytes() == before
    exit_code, screen = typed(governed, b"thing>=1\n", b"thing==1.0\n", b"\x04")
    assert (exit_code, "`thing>=1` is no pin" in screen) == (0, True), screen
    assert governed.json("tx", "inspect", "1")["transaction"]["resolution_pins"] == ["thing==1.0"]
