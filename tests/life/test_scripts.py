"""The scripts that first users know, as their manual calls them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfygov.ports.comfy_api import ComfyApi, free_port
from tests.kit.repos import commit_all, git, make_comfyui

if TYPE_CHECKING:
    from tests.kit.governed import Governed

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(bare: Governed, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout, beside a `bin/gov` that is this environment's."""
    gov = bare.root / "checkout" / "bin" / "gov"
    gov.parent.mkdir(parents=True, exist_ok=True)
    gov.write_text(f'#!/bin/sh\nexec {sys.executable} -I -m comfygov "$@"\n')
    gov.chmod(0o755)
    scripts = shutil.copytree(SCRIPTS, bare.root / "checkout" / "scripts", dirs_exist_ok=True)
    return subprocess.run(
        [scripts / name, *arguments], cwd=bare.root, env=bare.environment(), capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("own_venv", [False, True])
def test_init_comfyui_then_activate_and_start(bare: Governed, own_venv: bool) -> None:
    source = make_comfyui(bare.comfyui_source)
    wanted = git(source, "rev-parse", "HEAD")
    git(source, "tag", "v1")
    commit_all(source, "later")
    bare.wheels.mkdir()
    venv = ("--venv", str(bare.home / ".venv")) if own_venv else ()
    words = ("--path", str(bare.home), "--repo", str(source), "--ref", "v1", *venv, "--install-torch", "skip")
    wheels = ("--find-links", str(bare.wheels), "--index-url", "none")
    done = script(bare, "init_comfyui.sh", *words, "--python", sys.executable, *wheels)
    assert done.returncode == 0, done.stderr
    assert git(bare.home / "ComfyUI", "rev-parse", "HEAD") == wanted
    port = free_port()
    start = f'source "$COMFY_HOME/.venv/bin/activate" && exec python "$COMFY_HOME/ComfyUI/main.py" --port {port}'
    child = subprocess.Popen(
        ["bash", "-c", start], env=bare.environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + 60
        while not ComfyApi("127.0.0.1", port).alive():
            assert child.poll() is None, "it ended"
            assert time.monotonic() < end, "it does not answer"
            time.sleep(0.1)
        assert ComfyApi("127.0.0.1", port).object_info()
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(20)


def test_a_failure_is_its_exit_code(bare: Governed) -> None:
    done = script(bare, "init_comfyui.sh", "--path", str(bare.home), "--repo", str(bare.root / "none"))
    assert done.returncode == 2
    assert "neither a git URL nor a directory" in done.stderr
