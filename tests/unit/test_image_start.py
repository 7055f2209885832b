"""The first program of an image: its copy of the code on a volume that others have too, and signals that come early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PLACE = """
import os, sys
from pathlib import Path
from comfygov.ops.image_start import new_place
print(new_place(Path(sys.argv[1])).name, flush=True)
os.execv("/bin/cat", ["cat"])
"""
EARLY = """
import os, signal, sys
from comfygov.delivery.image import init
spawn = os.posix_spawn
def spawned(*words, **options):
    child = spawn(*words, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return child
os.posix_spawn = spawned
sys.exit(init.attend(["/bin/sleep", "30"], {}))
"""


def started(work: Path) -> tuple[subprocess.Popen[str], str]:
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", PLACE, str(work)], stdin=pipe, stdout=pipe, text=True)
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


def copies(work: Path) -> set[str]:
    return {path.name for path in work.glob("code-*")}


def test_containers_on_one_volume_leave_each_other_their_code(tmp_path: Path) -> None:
    (tmp_path / "code-of-one-that-was-killed").mkdir()
    first, one = started(tmp_path)
    second, two = started(tmp_path)
    assert copies(tmp_path) == {one, two}
    first.communicate()
    third, three = started(tmp_path)
    assert copies(tmp_path) == {two, three}
    for child in (second, third):
        child.communicate()


def test_a_signal_that_comes_at_once_is_handed_on() -> None:
    assert subprocess.run([sys.executable, "-c", EARLY], check=False, timeout=20).returncode == 128 + 15
