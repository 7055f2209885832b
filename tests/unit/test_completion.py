"""What a shell offers after TAB, asked as a shell asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from comfygov.model.state import Plugin, Registry
from comfygov.truth import store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """As much of a home as names come from."""
    (tmp_path / "config.toml").touch()
    for folder in ("state/transactions", "snapshots/0001-init", "snapshots/0002-promote_post", "lockfiles"):
        (tmp_path / folder).mkdir(parents=True)
    for number in (9, 10):
        (tmp_path / "state" / "transactions" / f"tx{number:04d}.json").touch()
    (tmp_path / "state" / "transactions" / ".tx0011.json.1.comfygov-tmp").touch()
    packs = tuple(Plugin(name, "source", "commit", "tree", f"node-{name}") for name in ("GGUF", "KJNodes"))
    store.save(tmp_path / "state" / "plugins.json", Registry(packs))
    (tmp_path / "lockfiles" / "comfy-studio-1.lock.json").touch()
    return tmp_path


def offered(home: Path, words: str) -> list[str]:
    """The plain words that bash would offer for the last word of `words`."""
    typed = words.split(" ")
    variables = {"_GOV_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(typed) - 1)}
    command = [sys.executable, "-I", "-m", "comfygov"]
    done = subprocess.run(command, env=os.environ | variables, cwd=home, capture_output=True, text=True, check=True)
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("gov roll", ["rollback"]),
        ("gov node rem", ["remove"]),
        ("gov tx inspect tx", ["tx0010", "tx0009"]),
        ("gov rollback ", ["0002-promote_post", "0001-init"]),
        ("gov node show K", ["KJNodes"]),
        ("gov version show s", ["studio-1"]),
        ("gov tx inspect --js", ["--json"]),
    ],
)
def test_commands_options_and_ids_are_offered(home: Path, words: str, wanted: list[str]) -> None:
    assert offered(home, words) == wanted


def test_the_home_that_was_named_is_asked(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert offered(elsewhere, f"gov --home {home} tx abort tx0009") == ["tx0009"]
    assert offered(elsewhere, f"gov tx abort --home {home} tx0009") == ["tx0009"]
    assert offered(elsewhere, "gov tx abort tx") == []


def test_a_home_that_cannot_be_read_offers_nothing(home: Path) -> None:
    (home / "state" / "plugins.json").write_text("{")
    assert offered(home, "gov node show K") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_takes(shell: str) -> None:
    made = subprocess.run(
        [sys.executable, "-I", "-m", "comfygov", "completion", shell], capture_output=True, text=True, check=True
    )
    assert "_GOV_COMPLETE" in made.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=made.stdout, text=True, check=True)


def test_the_version_names_the_tools() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "comfygov", "--version"], capture_output=True, text=True, check=True
    )
    words = done.stdout.split()
    assert words[::2] == ["gov", "uv", "python"]
    assert words[5] == ".".join(map(str, sys.version_info[:3]))
