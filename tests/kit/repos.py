"""Real git repositories made of a few files."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from comfygov.demo.repositories import write_standin

if TYPE_CHECKING:
    from pathlib import Path

PACK = """
class Marker:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return ("%(name)s",)


NODE_CLASS_MAPPINGS = {"%(name)s": Marker}
"""


def git(repository: Path, *arguments: str) -> str:
    """Run git and return what it printed."""
    identity = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *arguments],
        cwd=repository,
        env={**os.environ, **identity},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit_all(repository: Path, message: str = "change") -> str:
    """Commit everything and return the commit."""
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--allow-empty", "-m", message)
    return git(repository, "rev-parse", "HEAD")


def make_repository(path: Path, files: dict[str, str]) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "-q")
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    commit_all(path)
    return path


def make_pack(
    path: Path, requirements: str | None = None, classes: str = "", files: dict[str, str] | None = None
) -> Path:
    """A node pack that registers one class, named `classes` (default: after the folder)."""
    content = {"__init__.py": PACK % {"name": classes or path.name.replace("-", "_")}, **(files or {})}
    if requirements is not None:
        content["requirements.txt"] = requirements
    return make_repository(path, content)


def make_comfyui(path: Path, requirements: str = "") -> Path:
    """The stand-in for ComfyUI as a repository of its own."""
    write_standin(path, requirements=requirements)
    git(path, "init", "-q")
    commit_all(path, "stand-in")
    return path
