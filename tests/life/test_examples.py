"""Every script of examples/, as a person would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.governed import Governed
from tests.kit.repos import commit_all

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def home(governed: Governed) -> Governed:
    """`gov` and `python3` on PATH, as an installed comfygov is."""
    programs = governed.root / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in (("gov", f'"{sys.executable}" -I -m comfygov'), ("python3", f'"{sys.executable}"')):
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec {text} "$@"\n')
        path.chmod(0o755)
    governed.env["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return governed


def example(home: Governed, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=home.root, env=home.environment(), capture_output=True, text=True, timeout=300)


def test_the_life_of_a_change_in_scripts(home: Governed) -> None:
    home.wheel("colour", "1.0")
    first = home.pack("first", "colour==1.0\n")
    before = home.head()

    added = example(home, "add_a_pack.sh", str(first))
    assert added.returncode == 0, added
    assert "colour-1.0" in home.installed()
    with_first = home.head()

    driven = example(home, "drive_with_json.py", str(home.pack("second")))
    assert driven.returncode == 0, driven
    assert home.head() in driven.stdout

    (first / "more.py").touch()
    commit_all(first)
    updated = example(home, "update_all.sh")
    assert updated.returncode == 0, updated
    assert {tx["status"] for tx in home.json("tx", "list")["transactions"][-1:]} == {"completed"}

    back = example(home, "go_back.sh", before)
    assert back.returncode == 0, back
    assert "colour-1.0" not in home.installed()

    found = example(home, "find_the_culprit.sh", with_first, before, "colour")
    assert found.returncode == 1, found  # good at first: nothing is to be found that way round
    found = example(home, "find_the_culprit.sh", home.head(), with_first, "colour")
    assert found.returncode == 0, found
    assert "rollback" in found.stdout

    checked = example(home, "weekly_check.sh")
    assert checked.returncode == 0, checked
    (home.home / "ComfyUI" / "main.py").write_text("edited\n")
    assert example(home, "weekly_check.sh").returncode == 3


def test_a_trial_that_fails_ends_the_script(home: Governed) -> None:
    world = home.world()
    failed = example(home, "add_a_pack.sh", str(home.pack("asks-too-much", "nobody-has-this==1\n")))
    assert failed.returncode == 4, failed
    driven = example(home, "drive_with_json.py", str(home.root / "nowhere"))
    assert driven.returncode == 1, driven
    assert "try: " in driven.stderr
    after = home.world()
    assert {name: after[name] for name in world if name not in ("state/plugins.json", "head")} == {
        name: world[name] for name in world if name not in ("state/plugins.json", "head")
    }


def test_a_copy_in_another_place_is_proven(home: Governed) -> None:
    done = example(home, "copy_to_another_home.sh", "studio-1", str(home.root / "copy"))
    assert done.returncode == 0, done
    assert "identical" in done.stdout


def test_every_example_is_described() -> None:
    described = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.name == "README.md" or f"`{path.name}" in described
