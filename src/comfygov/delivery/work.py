"""The one directory that a handler writes to, and what ComfyUI is told to write there."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from comfygov.errors import Code, GovError
from comfygov.ports import desk, fs, process

# The handler's own keys: what a pack does not see it cannot tell.
_OURS = ("RUNPOD_", "BUCKET_", "AWS_", "AZURE_", "GOOGLE_", "GCS_", "COMFYGOV_", "COMFY_ORG_API_KEY")


@dataclass(frozen=True)
class Work:
    """`root` holds output, input, temp, user and the log of one handler."""

    root: Path
    is_temporary: bool = False

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def temp(self) -> Path:
        return self.root / "temp"

    @property
    def user(self) -> Path:
        return self.root / "user"

    @property
    def kept(self) -> Path:
        """Results that could not be delivered; outside of what ComfyUI knows."""
        return self.root / "kept"

    @property
    def log(self) -> Path:
        return self.root / "comfyui.log"

    def folder_of(self, kind: str) -> Path:
        """Where ComfyUI keeps files of `type` output, input or temp."""
        return {"input": self.input, "temp": self.temp}.get(kind, self.output)

    def arguments(self) -> list[str]:
        """ComfyUI's own flags. It makes `temp` below the folder that it is given, and deletes it at start and end."""
        return [
            *("--output-directory", str(self.output), "--input-directory", str(self.input)),
            *("--temp-directory", str(self.root), "--user-directory", str(self.user)),
            *("--database-url", f"sqlite:///{self.user / 'comfyui.db'}"),
        ]

    def remove(self) -> None:
        """A temporary one; results that could not be delivered stay."""
        if not self.is_temporary:
            return
        if not self.kept.is_dir():
            fs.remove_tree(self.root)
            return
        for path in self.root.iterdir():
            if path != self.kept:
                fs.remove_tree(path)


def make(given: str) -> Work:
    """A work directory: `given`, else a fresh temporary one. Raises GovError when it cannot be written."""
    if given:
        root = Path(given).expanduser().absolute()
        with fs.explained(root):
            root.mkdir(parents=True, exist_ok=True)
        work = Work(root)
    else:
        work = Work(Path(tempfile.mkdtemp(prefix="comfygov-handler-")), is_temporary=True)
    with fs.explained(work.root):
        for folder in (work.output, work.input, work.temp, work.user, work.root / "tmp", work.root / "home"):
            folder.mkdir(exist_ok=True)
    return work


def environment(work: Work, python: Path, comfyui: Path) -> dict[str, str]:
    """The variables of ComfyUI: this process's without the handler's own keys; installers are stand-ins that refuse.
    The home directory is a person's own where it can be written."""
    hidden = {name: None for name in os.environ if name.startswith(_OURS)}
    home = os.environ.get("HOME", "")
    programs = desk.write_programs(work.root / "programs")
    inherited = os.environ.get("PATH", "/usr/bin:/bin")
    own = {
        "HOME": home if home and os.access(home, os.W_OK) else str(work.root / "home"),
        "TMPDIR": str(work.root / "tmp"),
        "VIRTUAL_ENV": str(python.parent.parent),
        "PATH": os.pathsep.join([str(programs), str(python.parent), inherited]),
        "PYTHONPATH": str(desk.PYTHON_PATH),
        "PYTHONUNBUFFERED": "1",
        "COMFYUI_PATH": str(comfyui),
        "COMFYGOV_PROGRAMS": str(programs),
        "COMFYGOV_CUSTOM_NODES": str(comfyui / "custom_nodes"),
        "COMFYGOV_INSTALLS": "block",
        "COMFYGOV_INSTALL_LOG": str(work.root / "installs.jsonl"),
    }
    return process.child_environment({**hidden, **own})


def refuse_little_space(work: Work, least_bytes: int) -> None:
    free = shutil.disk_usage(work.root).free
    if free < least_bytes:
        raise GovError(Code.DISK_FULL, f"{work.root} has {free:,} bytes free", "name another place with --work-dir")
