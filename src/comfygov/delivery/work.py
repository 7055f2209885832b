"""The one directory that a handler writes to, and what ComfyUI is told to write there."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import desk, fs, lock, process

if TYPE_CHECKING:
    from collections.abc import Iterator

# The handler's own keys: what a pack does not see it cannot tell.
_OURS = ("RUNPOD_", "BUCKET_", "AWS_", "AZURE_", "GOOGLE_", "GCS_", "COMFYGOV_", "COMFY_ORG_API_KEY")
_TEMPORARY = "comfygov-handler-"
_RUN_ID = re.compile(r"handler:[0-9a-f]{16}")
_WAIT_SECONDS = 2.0


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

    @property
    def lock(self) -> Path:
        """Held by the handler that works here."""
        return self.root / "handler.lock"

    @property
    def run_record(self) -> Path:
        """The mark of the ComfyUI that runs here: what a killed handler leaves running is found by it."""
        return self.root / "comfyui.run"

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


@contextmanager
def held(given: str, command: str) -> Iterator[Work]:
    """A work directory for the block, and for nobody else: `given`, else a temporary one. What a killed handler left
    running there is ended, and temporary ones of killed handlers go. Raises GovError when it is used or unusable."""
    _remove_left_behind(command)
    work = make(given)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock.exclusive(work.lock, command, _WAIT_SECONDS))
        except GovError as error:
            raise _used(work) if error.code is Code.BUSY else error from error
        except OSError as error:
            raise fs.explain_os_error(error, work.lock) from error
        stack.callback(work.remove)
        end_left_running(work)
        yield work


def _used(work: Work) -> GovError:
    holder = lock.holder(work.lock)
    who = f" (`{holder.command}`, pid {holder.pid})" if holder and holder.pid else ""
    message = f"another handler works in {work.root}{who}"
    return GovError(Code.BUSY, message, "wait until it has ended, or name another --work-dir")


def new_run_id(work: Work) -> str:
    """The mark for one start of ComfyUI, on disk before there is a process that carries it. One for each start: who
    ends a ComfyUI must not meet the next one. Not a path: every image has the same work directory, and a build shares
    the machine's processes."""
    run_id = f"handler:{os.urandom(8).hex()}"
    with fs.explained(work.run_record):
        fs.write_atomic(work.run_record, run_id.encode())
    return run_id


def end_left_running(work: Work) -> None:
    """End the ComfyUI whose handler is gone, with all that it started."""
    try:
        run_id = work.run_record.read_text(errors="replace")
    except FileNotFoundError:
        return
    if _RUN_ID.fullmatch(run_id):
        process.end_marked(run_id)
    work.run_record.unlink(missing_ok=True)


def _remove_left_behind(command: str) -> None:
    """Temporary directories whose handler was killed: it had the lock, and nobody has it now."""
    for root in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        work = Work(root, is_temporary=True)
        try:
            # The name of a holder in it: a directory that is only just being made has none.
            if root.lstat().st_uid == os.getuid() and work.lock.stat().st_size and lock.works(work.lock):
                with lock.exclusive(work.lock, command, 0):
                    end_left_running(work)
                    work.remove()
        except (OSError, GovError):
            continue  # used, gone, or not ours to remove


def make(given: str) -> Work:
    """A work directory: `given`, else a fresh temporary one. Raises GovError when it cannot be written."""
    if given:
        root = Path(given).expanduser().absolute()
        with fs.explained(root):
            root.mkdir(parents=True, exist_ok=True)
        work = Work(root)
    else:
        work = Work(Path(tempfile.mkdtemp(prefix=_TEMPORARY)), is_temporary=True)
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
