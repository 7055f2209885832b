"""An environment with comfygov's dependencies and its extras (runpod, gcs, s3, azure), for tests of the real libraries.

It comes from PyPI by requirements/extras.txt (about 130 packages, 260 MB, a minute) into the user's cache, once for
each lock and Python. Where PyPI does not answer, tests that need it are skipped and say why.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
_INSTALL_SECONDS = 900


@functools.cache
def extras_python() -> str:
    """The interpreter of the environment; made when it is not there."""
    lock = ROOT / "requirements" / "extras.txt"
    wanted = lock.read_text().splitlines()[0].split()[-1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "comfygov" / "test-extras"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = cache / f"{version}-{wanted[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{version}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # several processes of one test run
        if not (place / "ready").is_file():
            _make(place, lock)
    return str(place / "bin" / "python")


def _make(place: Path, lock: Path) -> None:
    for old in place.parent.glob(f"{place.name.split('-')[0]}-*"):
        shutil.rmtree(old)
    run_uv("the extras", _INSTALL_SECONDS, "venv", "--quiet", "--python", sys.executable, str(place))
    python = str(place / "bin" / "python")
    run_uv(
        "the extras",
        _INSTALL_SECONDS,
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--compile-bytecode",
        "--python",
        python,
        "-r",
        str(lock),
    )
    (place / "ready").touch()


def run_uv(what: str, seconds: int, *arguments: str) -> None:
    """Run uv for at most `seconds`; where PyPI does not give `what`, the test is skipped."""
    import uv

    env = {**os.environ, "UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"}
    try:
        done = subprocess.run([uv.find_uv_bin(), *arguments], env=env, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        pytest.skip(f"PyPI did not give {what} in time")
    if done.returncode:
        pytest.skip(f"{what} could not be had: {' '.join(done.stderr.split())[-300:]}")
