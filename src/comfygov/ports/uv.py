"""uv, as comfygov uses it: on staging directories only, with its own settings, never `uv add`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from comfygov.errors import Code, GovError
from comfygov.ports import process
from comfygov.ports.frame import frame_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

ASK_TIMEOUT_SECONDS = 15.0
LOCK_TIMEOUT_SECONDS = 600.0
SYNC_TIMEOUT_SECONDS = 3600.0

_NETWORK_WORDS = re.compile(
    r"failed to fetch|error sending request|dns error|could not connect|connection (refused|reset)|"
    r"network is unreachable|client error \(connect\)|timed out|tcp connect error|"
    r"failed to connect to|could not resolve host",
    re.IGNORECASE,
)
# What uv says of requirements with an address of their own that no environment can hold: the server says no, or
# there are two addresses, or one that only a package asks for.
_UNSOLVABLE_ADDRESS = re.compile(
    r"Failed to download(?: and build)? `\S+ @ .*(status client error \((404|410)|fatal: repository \S+ not found)|"
    r"contain conflicting URLs for|URL dependencies must be expressed as direct requirements",
    re.DOTALL,
)
_DISK_WORDS = re.compile(r"no space left|os error 28|disk quota", re.IGNORECASE)

_NO_CONFIG = Path("/dev/null")

LockVerdict = Literal["locked", "no_solution", "malformed"]


@dataclass(frozen=True)
class LockOutcome:
    """How `uv lock` ended; `text` is uv's own explanation when it did not lock."""

    verdict: LockVerdict
    text: str = ""


@dataclass(frozen=True)
class Interpreter:
    """A Python that generations are built on. `build` tells apart what is binary-compatible."""

    path: str
    version: str
    build: str
    system: str
    machine: str

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


def find_binary() -> str:
    """The uv that came with comfygov (its wheel carries the binary), else the one on PATH."""
    beside = Path(sys.executable).parent / "uv"
    if beside.is_file():
        return str(beside)
    found = shutil.which("uv")
    if found is None:
        raise GovError(Code.TOOL_MISSING, "uv is not there", "install comfygov again: its uv package is missing")
    return found


class Uv:
    """Runs uv with a scrubbed environment. Every method names the directory it may change."""

    def __init__(self, binary: str | None = None) -> None:
        """With `offline` set, later calls ask no server."""
        self.binary = binary or find_binary()
        self.offline = False

    def _run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        timeout_seconds: float,
        env: dict[str, str] | None = None,
    ) -> process.Completed:
        # UV_NO_CONFIG would also switch off [tool.uv] of the project itself (its index, no-build, …);
        # a person's own uv.toml must not decide what a home holds.
        settings = {
            "XDG_CONFIG_HOME": str(_NO_CONFIG),
            "XDG_CONFIG_DIRS": str(_NO_CONFIG),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "UV_NO_WRAP": "1",  # an exported COLUMNS would break the words that are looked for
            "NO_COLOR": "1",
            **({"UV_OFFLINE": "1"} if self.offline else {}),
            **(env or {}),
        }
        return process.run(
            [self.binary, *arguments],
            cwd=cwd,
            env=process.child_environment(settings),
            timeout_seconds=timeout_seconds,
        )

    def lock(self, project: Path, interpreter: str, upgrade: Sequence[str] = ()) -> LockOutcome:
        """Write `project/uv.lock` for `project/pyproject.toml`; an older lock there is a preference, except for
        the packages in `upgrade` (`*`: for none).

        Raises GovError `network`, `disk_full` or `tool_failed`; no solution is an outcome.
        """
        done = self._run(
            ["lock", "--project", str(project), "--python", interpreter, *_upgrades(upgrade)],
            cwd=project,
            timeout_seconds=LOCK_TIMEOUT_SECONDS,
        )
        if done.exit_code == 0:
            return LockOutcome("locked")
        if "No solution found" in done.stderr:
            return LockOutcome("no_solution", done.stderr.strip())
        if "malformed" in done.stderr or "Failed to parse" in done.stderr:
            return LockOutcome("malformed", done.stderr.strip())
        if _UNSOLVABLE_ADDRESS.search(done.stderr):
            return LockOutcome("no_solution", done.stderr.strip())
        if "Building source distributions is disabled" in done.stderr or "--no-build" in done.stderr:
            return LockOutcome("no_solution", done.stderr.strip())
        raise _failure("lock the packages", done)

    def make_venv(self, target: Path, interpreter: str) -> None:
        """Make an empty environment that can be moved."""
        done = self._run(
            ["venv", "--quiet", "--relocatable", "--no-project", "--python", interpreter, str(target)],
            cwd=target.parent,
            timeout_seconds=60,
        )
        if done.exit_code != 0:
            raise _failure(f"make an environment on {interpreter}", done)

    def sync(self, project: Path, environment: Path, interpreter: str, extras: Sequence[str] = ()) -> None:
        """Bring the staging directory `environment`, which is on `interpreter`, to exactly what
        `project/uv.lock` says, with the chosen `extras`. Without bytecode: to make it uv starts the environment's
        own Python, and with it whatever a package has in a `.pth` file."""
        _refuse_other_python(environment, interpreter)
        arguments = ["sync", "--python", interpreter, "--project", str(project), "--frozen", "--exact"]
        arguments += ["--all-groups", "--no-install-project", *extra_options(extras)]
        done = self._run(
            arguments,
            cwd=project,
            env={"UV_PROJECT_ENVIRONMENT": str(environment)},
            timeout_seconds=SYNC_TIMEOUT_SECONDS,
        )
        if done.exit_code != 0:
            raise _failure("install the locked packages", done)

    def sync_group(
        self,
        project: Path,
        environment: Path,
        interpreter: str,
        group: str,
        without: Sequence[str],
        extras: Sequence[str] = (),
        *,
        shared: bool,
    ) -> None:
        """Add what one dependency group of the lock needs to `environment`, but for the packages `without`. Its files
        are `shared` with uv's cache, or copies where somebody may write into them."""
        _refuse_other_python(environment, interpreter)
        arguments = ["sync", "--python", interpreter, "--project", str(project), "--frozen", "--inexact"]
        arguments += ["--no-default-groups", "--group", group, *extra_options(extras)]
        arguments += [word for name in without for word in ("--no-install-package", name)]
        settings = {"UV_PROJECT_ENVIRONMENT": str(environment), **({} if shared else {"UV_LINK_MODE": "copy"})}
        done = self._run(arguments, cwd=project, env=settings, timeout_seconds=SYNC_TIMEOUT_SECONDS)
        if done.exit_code != 0:
            raise _failure("install what a pack asked for", done)
        _disarm(environment)

    def export(self, project: Path, extras: Sequence[str] = (), *, pinned: bool = False) -> str:
        """What `project/uv.lock` installs, as the text of a `pylock.toml`, or (`pinned`) as lines
        `name==version ; marker`. Needs no Python and no network."""
        arguments = [
            "export",
            "--project",
            str(project),
            "--frozen",
            "--all-groups",
            "--no-emit-project",
            "--no-header",
            "--no-cache",  # where it runs there may be no folder for one
        ]
        arguments += [word for name in extras for word in ("--extra", name)]
        arguments += (
            ["--format", "requirements.txt", "--no-hashes", "--no-annotate"] if pinned else ["--format", "pylock.toml"]
        )
        done = self._run(arguments, cwd=project, timeout_seconds=LOCK_TIMEOUT_SECONDS)
        if done.exit_code != 0:
            raise _failure("write down the locked packages", done)
        return done.stdout

    def forget(self, packages: Sequence[str]) -> None:
        """Drop what uv's cache holds of `packages`; it is fetched again."""
        done = self._run(["cache", "clean", *packages], cwd=Path("/"), timeout_seconds=300)
        if done.exit_code != 0:
            raise _failure(f"drop {', '.join(packages)} from its cache", done)

    def find_python(self, wanted: str) -> str:
        """The absolute path of the Python that `wanted` (a path, `3.12`, `python3.12`) names."""
        done = self._run(["python", "find", "--no-project", "--system", wanted], cwd=Path("/"), timeout_seconds=60)
        found = done.stdout.strip()
        if done.exit_code != 0 or not found:
            raise GovError(
                Code.NOT_FOUND,
                f"there is no Python `{wanted}` here",
                f"install it (`uv python install {wanted}`), or name another with --python PATH",
            )
        return found

    def cache_folder(self) -> Path:
        """Where uv keeps packages."""
        return Path(self._run(["cache", "dir"], cwd=Path.cwd(), timeout_seconds=20).stdout.strip())

    def ask_index(self, url: str, folder: Path) -> None:
        """Ask the package index at `url` (empty: the default one) for a package, past the cache; `folder` is for files
        that are needed meanwhile. That it has none is an answer. Raises `network`, `timeout` or `tool_failed`."""
        asked, cache = folder / "asked.txt", folder / "cache"
        asked.write_text("torch\n" if "pytorch" in url else "pip\n")
        index = ("--default-index", url) if url else ()
        done = self._run(
            ["pip", "compile", "--quiet", "--no-deps", "--refresh", "--cache-dir", str(cache), *index, str(asked)],
            cwd=folder,
            timeout_seconds=ASK_TIMEOUT_SECONDS,
        )
        if done.exit_code != 0 and "No solution found" not in done.stderr:
            raise _failure("read the index", done)

    def version(self) -> str:
        """`0.13.9`"""
        done = self._run(["--version"], cwd=Path("/"), timeout_seconds=30)
        return done.stdout.split()[1] if done.exit_code == 0 else "unknown"


def _disarm(environment: Path) -> None:
    """uv starts this environment's Python when it is asked to add more, outside of any sandbox; a `.pth` file
    would run then. Who only looks for packages here needs none of them."""
    for path in environment.glob("lib/python3*/site-packages/*.pth"):
        path.unlink()


def extra_options(names: Sequence[str]) -> list[str]:
    return [word for name in names for word in ("--extra", name)]


def _upgrades(names: Sequence[str]) -> list[str]:
    return ["--upgrade"] if "*" in names else [word for name in names for word in ("--upgrade-package", name)]


def _refuse_other_python(environment: Path, interpreter: str) -> None:
    """uv installs into the Python that it finds at `bin/python`, and makes another environment where that is
    not the one it wants. Where the frame is damaged it would be the Python of the system."""
    problems = frame_problems(environment, interpreter)
    if problems:
        message = f"{environment} is no environment of its own on {interpreter}"
        raise GovError(Code.ENVIRONMENT_DAMAGED, message, "gov sync", tuple(problems))


_INTERPRETER_FACTS = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "path": os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable),
    "version": platform.python_version(),
    "build": " ".join(
        [sys.implementation.cache_tag, str(sysconfig.get_config_var("SOABI")), *platform.python_build()]
    ),
    "system": sys.platform,
    "machine": platform.machine(),
}))
"""


def inspect_interpreter(path: str) -> Interpreter:
    """Ask the Python at `path` what it is; a shim that cannot run is an error here, not later."""
    try:
        # -B: the packages of the environment that it may belong to get no bytecode from us.
        done = process.run([path, "-I", "-B", "-c", _INTERPRETER_FACTS], timeout_seconds=30)
    except GovError as error:
        error.hint = "name another with --python PATH"
        raise
    if done.exit_code != 0:
        raise GovError(
            Code.NOT_FOUND,
            f"the Python at {path} does not run",
            "name another with --python PATH",
            (done.words[-500:],),
        )
    return Interpreter(**json.loads(done.stdout))


_MAPPED = "print(*{line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}, sep='\\n')"


@lru_cache(maxsize=4)
def mapped_files(python: str) -> tuple[Path, ...]:
    """The libraries that a Python is made of: a shared libpython may lie far from its program."""
    if not Path("/proc/self/maps").exists():
        return ()
    done = process.run([python, "-I", "-S", "-c", _MAPPED], timeout_seconds=30)
    return tuple(Path(line) for line in done.stdout.splitlines() if line.startswith("/"))


def _failure(what: str, done: process.Completed) -> GovError:
    """The error for a uv that failed for another reason than 'no solution'."""
    text = done.words
    details = tuple(text.splitlines()[-30:])
    if _DISK_WORDS.search(text):
        return GovError(
            Code.DISK_FULL,
            f"the disk became full while uv tried to {what}",
            "free space, then run this again",
            details,
        )
    if "invalid peer certificate" in text:
        return GovError(
            Code.NETWORK,
            f"uv could not {what}: no certificate that it knows vouches for {_silent_server(text)}",
            "set SSL_CERT_FILE to a file with your network's certificates, or UV_SYSTEM_CERTS=1 to use the system's",
            details,
        )
    if _NETWORK_WORDS.search(text):
        return GovError(
            Code.NETWORK,
            f"uv could not {what}: {_silent_server(text)} does not answer",
            "check the network (or [python] index_url in config.toml), then run the command again",
            details,
        )
    return GovError(
        Code.TOOL_FAILED, f"uv could not {what} (exit {done.exit_code})", "the lines above are uv's own", details
    )


def _silent_server(text: str) -> str:
    """A requirement may name an address of its own; else it is the index that uv speaks of."""
    named = re.search(r"`\S+ @ (\S+)`", text)
    return named[1] if named else "the package index"
