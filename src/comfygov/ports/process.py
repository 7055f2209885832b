"""Child processes: a scrubbed environment, argument lists, a deadline, and whole trees that end."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports.identity import started_at

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import psutil

_is_subreaper = False

RUN_ID_VARIABLE = "COMFYGOV_RUN_ID"
"""Every process that a ComfyUI of ours starts inherits this; it is how stragglers are found."""

_OTHERS_MAY_WRITE = 0o022
_user_umask = -1

held_open: set[int] = set()
"""Descriptors of locks that children keep open: a git that outlives its killed command still holds the lock."""
descriptors_change = threading.Lock()
"""Held while a child starts and while a lock's descriptor comes or goes: another thread may do either."""
_PIPE_SECONDS = 2.0
# Each of these has silently redirected uv, pip or Python once (field notes on uv, section 11).
_SCRUBBED_PREFIXES = ("UV_", "PIP_", "PYTHON", "CONDA_")
_SCRUBBED = frozenset({"VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "__PYVENV_LAUNCHER__"})
# Transport only: they change how bytes travel, never which bytes are chosen.
_KEPT = frozenset({"UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_CONCURRENT_DOWNLOADS", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"})


def keep_others_out() -> None:
    """From now on neither group nor others may write what comfygov makes. A ComfyUI in production gets the
    person's own umask back: its outputs are theirs to share."""
    global _user_umask  # noqa: PLW0603 (a fact about this process)
    _user_umask = os.umask(_OTHERS_MAY_WRITE)
    os.umask(_user_umask | _OTHERS_MAY_WRITE)


def child_environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This process's environment without what redirects Python tools; `None` in `extra` removes a name."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not (name in _SCRUBBED or name.startswith(_SCRUBBED_PREFIXES))
    }
    for name, value in (extra or {}).items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


@dataclass(frozen=True)
class Completed:
    """A finished child: its exit code (negative for a signal) and what it printed."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        """What it said, standard error first: that is where tools explain themselves."""
        said = (self.stderr.strip() + "\n" + self.stdout.strip()).strip()
        return said.encode(errors="surrogateescape").decode(errors="replace")


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float = 60.0,
    errors: str = "replace",
    exact: bool = False,
    holds_locks: bool = True,
) -> Completed:
    """Run a child to its end and return what it said. A bad exit code is the caller's to judge.

    `errors` says what becomes of bytes that are no UTF-8 (file names need `surrogateescape`). Line ends of other
    systems become ours, unless the bytes shall be `exact`. One that is killed with us on the way may go on: it
    keeps our locks meanwhile, if it `holds_locks`.
    Raises GovError `timeout` (after killing the child's process group) and `tool_missing`.
    """
    import subprocess  # 5 ms that `gov status` does not need

    try:
        with descriptors_change:
            child = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=dict(env) if env is not None else child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=tuple(held_open) if holds_locks else (),
            )
    except OSError as error:
        raise _cannot_start(argv[0], cwd, error) from error
    try:
        stdout, stderr = child.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        _kill_group(child)
        raise GovError(
            Code.TIMEOUT,
            f"`{argv[0]} {argv[1] if len(argv) > 1 else ''}` did not end in {timeout_seconds:.0f} s",
        ) from error
    except BaseException:
        _kill_group(child)
        raise
    return Completed(tuple(argv), child.returncode, *(_text(data, errors, exact=exact) for data in (stdout, stderr)))


def _text(data: bytes, errors: str, *, exact: bool) -> str:
    text = data.decode("utf-8", errors)
    return text if exact else text.replace("\r\n", "\n").replace("\r", "\n")


def _cannot_start(program: str, cwd: Path | None, error: OSError) -> GovError:
    if cwd is not None and not cwd.is_dir():
        return GovError(Code.TOOL_FAILED, f"`{program}` cannot start in {cwd}: there is no such directory")
    if isinstance(error, FileNotFoundError):
        return GovError(Code.TOOL_MISSING, f"`{program}` is not there", "install it, or put it on PATH")
    return GovError(Code.TOOL_FAILED, f"`{program}` cannot be started: {error.strerror}")


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    import subprocess

    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        child.communicate(timeout=_PIPE_SECONDS)
    except subprocess.TimeoutExpired:
        # Somebody who left the group holds the pipes; they are ours to close, not to wait for.
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()
        child.wait(_PIPE_SECONDS)


@dataclass
class Service:
    """A long-running child whose output goes to files, in a session of its own."""

    child: subprocess.Popen[bytes]
    run_id: str
    started: float

    @property
    def pid(self) -> int:
        return self.child.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.child.poll()

    def wait(self, timeout_seconds: float | None = None) -> int | None:
        """Its exit code, or None when the time is over first."""
        import subprocess

        try:
            return self.child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None

    def listens(self, port: int) -> bool:
        """True when one of its processes holds the TCP port; also where the system does not let one look."""
        import psutil

        for member in members(self.pid, self.run_id, self.started):
            try:
                held = psutil.Process(member).net_connections("tcp")
            except psutil.AccessDenied:
                return True
            except psutil.NoSuchProcess:
                continue
            if any(entry.status == psutil.CONN_LISTEN and entry.laddr.port == port for entry in held):
                return True
        return False

    def stop(self, first_signal: int, grace_seconds: float) -> int:
        """End the whole tree: `first_signal`, then SIGKILL after the grace. Returns the exit code."""
        end_tree(self.pid, self.run_id, first_signal, grace_seconds, reap=self.child.poll, since=self.started)
        return self.child.wait(10)


def start_service(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    run_id: str,
    stdout: Path | None,
    stderr: Path | None = None,
    stdout_is_stderr: bool = False,
    is_production: bool = False,
    descriptors: Sequence[int] = (),
) -> Service:
    """Start `argv`; `stdout` None inherits the terminal (or, so asked, its standard error), `stderr` None
    joins standard output. Production gets the person's own umask. `descriptors` stay open in the child."""
    import subprocess

    environment = {**env, RUN_ID_VARIABLE: run_id}
    out = err = None
    try:
        out = stdout.open("ab") if stdout else None
        err = stderr.open("ab") if stderr else None
        child = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2 if out is None and stdout_is_stderr else out,
            stderr=err or (subprocess.STDOUT if out else None),
            start_new_session=True,
            umask=_user_umask if is_production else -1,
            pass_fds=tuple(descriptors),
        )
    except OSError as error:
        raise _cannot_start(argv[0], cwd, error) from error
    finally:
        for file in (out, err):
            if file:
                file.close()
    return Service(child, run_id, started_at(child.pid) or 0.0)


def _adopted(since: float) -> set[int]:
    """Children of ours that we did not start: a subreaper inherits them, with all that they started."""
    import psutil

    if not _is_subreaper:
        return set()
    found: set[int] = set()
    for child in psutil.Process().children():
        if (started_at(child.pid) or 0.0) >= since and os.getsid(child.pid) != os.getsid(0):
            found |= {child.pid, *(below.pid for below in child.children(recursive=True))}
    return found


def become_subreaper() -> None:
    """Make orphans of our children ours (Linux), so that a daemonised grandchild cannot leave the tree."""
    import ctypes
    import sys

    global _is_subreaper  # noqa: PLW0603 (a fact about this process)
    if sys.platform == "linux":
        set_child_subreaper = 36
        _is_subreaper = ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0) == 0


def members(pid: int, run_id: str, since: float | None = None) -> set[int]:
    """All living processes of a tree: descendants of `pid`, its session, whoever carries `run_id`, and
    (for a subreaper) orphans that became our children after `since`."""
    import psutil

    found: set[int] = set()
    try:
        root = psutil.Process(pid)
        found.add(pid)
        found.update(child.pid for child in root.children(recursive=True))
    except psutil.Error:
        pass
    found |= _adopted(since) if since is not None else set()
    found |= _where(lambda process: os.getsid(process.pid) == pid or process.environ().get(RUN_ID_VARIABLE) == run_id)
    return {p for p in found - {os.getpid()} if started_at(p) is not None}


def below(pid: int) -> set[int]:
    """The living descendants of a process, and itself."""
    import psutil

    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    except psutil.Error:
        return set()


def private_bytes(pids: set[int]) -> int:
    """Memory that these processes hold and do not share (what they map from files does not count)."""
    import psutil

    total = 0
    for pid in pids:
        try:
            memory = psutil.Process(pid).memory_info()
        except psutil.Error:
            continue
        total += max(0, memory.rss - getattr(memory, "shared", 0))
    return total


def machine_memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _where(holds: Callable[[psutil.Process], bool]) -> set[int]:
    """Processes for which `holds`, among those that we may look into."""
    import psutil

    found: set[int] = set()
    for process in psutil.process_iter():
        try:
            if holds(process):
                found.add(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def end_tree(
    pid: int,
    run_id: str,
    first_signal: int,
    grace_seconds: float,
    *,
    reap: Callable[[], int | None] | None = None,
    since: float | None = None,
) -> None:
    """Signal the tree's root, wait, then kill every member until none is left (bounded)."""
    _send(pid, first_signal)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and _root_lives(pid, reap):
        time.sleep(0.02)
    for _ in range(50):
        left = members(pid, run_id, since)
        if not left:
            return
        for member in left:
            _send(member, signal.SIGKILL)
        _root_lives(pid, reap)
        _reap_orphans(left - {pid})
        time.sleep(0.02)


def marked(run_id: str) -> list[int]:
    """Living processes that carry `run_id`, the oldest first."""
    found = _where(lambda process: process.environ().get(RUN_ID_VARIABLE) == run_id)
    started = {pid: started_at(pid) for pid in found}
    return sorted((pid for pid in found if started[pid] is not None), key=lambda pid: (started[pid] or 0.0, pid))


def end_marked(run_id: str) -> None:
    """Kill every process that carries `run_id`: what a command that was killed left running."""
    for _ in range(50):
        left = marked(run_id)
        if not left:
            return
        for member in left:
            _send(member, signal.SIGKILL)
        time.sleep(0.02)


def kill_children() -> None:
    """Kill what this process has started and all below it: threads that wait for a child go on at once."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        _send(child.pid, signal.SIGKILL)


def _root_lives(pid: int, reap: Callable[[], int | None] | None) -> bool:
    if reap is not None:
        return reap() is None
    return started_at(pid) is not None


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _reap_orphans(pids: set[int]) -> None:
    """Collect the exit codes of killed grandchildren that a subreaper inherited."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue
