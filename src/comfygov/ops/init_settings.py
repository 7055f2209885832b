"""What `gov init` was asked for, checked and written into config.toml."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ops import locking
from comfygov.ops.context import Context
from comfygov.ports import git_history, uv
from comfygov.ports.git import parse_source
from comfygov.ports.source import without_credentials
from comfygov.resolve import requirements, torch_backend
from comfygov.truth import settings


class InitRequest(msgspec.Struct, frozen=True):
    """What the person asked for. None means: keep what the home has, else the default."""

    root: Path
    comfyui_dir: str | None = None
    repo: str | None = None
    ref: str | None = None
    python: str | None = None
    venv: str | None = None
    install_torch: str | None = None
    find_links: tuple[str, ...] = ()
    index_url: str | None = None
    constraints: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    as_of: str | None = None
    timeout_seconds: float | None = None


def refuse_late_changes(context: Context, request: InitRequest) -> None:
    """A governed home changes by transactions, not by a second init with other wishes; the same are fine."""
    python, pin = context.config.python, context.head_state().declared.comfyui
    wishes: list[tuple[str, object, object]] = [
        ("--repo", request.repo and parse_source(request.repo, Path.cwd()).public, pin.repo),
        ("--ref", request.ref, pin.ref),
        ("--comfyui-dir", request.comfyui_dir and _absolute(request.comfyui_dir), str(context.home.comfyui)),
        ("--venv", _link_wish(request), str(context.home.production_link)),
        ("--python", request.python and interpreter_of(request.python), python.interpreter),
        ("--index-url", request.index_url, python.index_url),
        ("--constraint", request.constraints, python.constraints),
        ("--find-links", tuple(map(existing_directory, request.find_links)), python.find_links),
        ("--require", request.require, _asked_already(context, request)),
        ("--as-of", request.as_of and as_of_time(context, request.as_of, pin.commit), python.exclude_newer),
        ("--install-torch", request.install_torch and (_backend(request),), python.torch_backends or ("",)),
    ]
    changed = [option for option, wanted, found in wishes if wanted and wanted != found]
    if changed:
        raise GovError(
            Code.ALREADY_EXISTS,
            f"{context.home.root} is governed already; another {', '.join(changed)} would change it untried",
            _way_on(changed[0], request),
        )


def _way_on(option: str, request: InitRequest) -> str:
    """The command that tries the change which `option` wishes for."""
    ways = {
        "--repo": "make a new home of it: gov init --path NEW_DIR --repo URL",
        "--comfyui-dir": f"make a new home of it: gov init --path NEW_DIR --comfyui-dir {request.comfyui_dir}",
        "--ref": f"gov tx run --comfyui {shlex.quote(request.ref or '')}",
        "--require": f"gov tx run --dep {' '.join(map(shlex.quote, request.require))}",
    }
    return ways.get(option, "edit config.toml: its settings take effect with the next transaction (`gov tx run`)")


def _link_wish(request: InitRequest) -> str | None:
    """Where the link shall be. An environment that was adopted is no wish for a link."""
    return _absolute(request.venv, request.root) if request.venv and not adopted_environment(request) else None


def adopted_environment(request: InitRequest) -> Path | None:
    """The environment that the install at `--comfyui-dir` runs in: the one of `--venv`, else one beside its main.py."""
    if not request.comfyui_dir:
        return None
    tree, root = Path(_absolute(request.comfyui_dir)), request.root.absolute().resolve()
    named = [Path(_absolute(request.venv))] if request.venv else [tree / ".venv", tree / "venv"]
    there = (path for path in named if (path / "bin" / "python").exists())
    return next((path for path in there if not path.resolve().is_relative_to(root)), None)


def _asked_already(context: Context, request: InitRequest) -> tuple[str, ...]:
    """The required lines that are in force: later changes may have asked for more."""
    asked = context.head_state().declared.groups.get(locking.EXTRA_GROUP, ())
    return tuple(line for line in request.require if line in asked)


def as_of_time(context: Context, wanted: str, commit: str) -> str:
    """The time (RFC 3339, UTC) that `wanted` means: of the ComfyUI commit, or the end of a day.

    Raises `usage` for anything but `commit`, YYYY-MM-DD and RFC 3339.
    """
    if wanted == "commit":
        return git_history.committed_at(context.git, context.home.comfyui, commit)
    return day_or_time(wanted)


def day_or_time(wanted: str) -> str:
    from datetime import datetime, timedelta, timezone

    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", wanted):
            end = datetime.strptime(wanted, "%Y-%m-%d").replace(tzinfo=timezone.utc) + timedelta(days=1)
        else:
            end = datetime.fromisoformat(wanted.replace("Z", "+00:00"))
    except ValueError as error:
        raise GovError(
            Code.USAGE, f"`{wanted}` is no date", "--as-of 2025-10-12, 2025-10-12T08:00:00Z, or commit"
        ) from error
    return end.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _absolute(path: str, base: Path | None = None) -> str:
    return str(((base or Path.cwd()).absolute() / Path(path).expanduser()).absolute())


def _backend(request: InitRequest) -> str:
    return torch_backend.backend_for(request.install_torch or "", _system())


def wanted_settings(request: InitRequest) -> dict[str, dict[str, Any]]:
    """What the request writes into config.toml."""
    changes: dict[str, dict[str, Any]] = {}
    if request.comfyui_dir:
        changes.setdefault("paths", {})["comfyui_dir"] = str(Path(request.comfyui_dir).expanduser().absolute())
    if request.venv and not adopted_environment(request):
        changes.setdefault("runtime", {})["prod_env"] = _link_place(request)
    python = _python_settings(request)
    if python:
        changes["python"] = python
    return changes


def _python_settings(request: InitRequest) -> dict[str, Any]:
    python: dict[str, Any] = {}
    adopted = adopted_environment(request)
    if adopted:
        _refuse_with_adopted(request, adopted)
        python["interpreter"] = interpreter_of(str(adopted / "bin" / "python"))
    elif request.python or not (request.root / "config.toml").is_file():
        python["interpreter"] = interpreter_of(request.python)
    for text in (*request.constraints, *request.require):
        if requirements.parse(text) is None:
            raise GovError(Code.USAGE, f"`{text}` is not a requirement", "for example 'torch==2.11.*'")
    if request.constraints:
        python["constraints"] = list(request.constraints)
    if request.find_links:
        python["find_links"] = [existing_directory(entry) for entry in request.find_links]
    if request.as_of and request.as_of != "commit":
        python["exclude_newer"] = day_or_time(request.as_of)
    if request.index_url:
        python["index_url"] = _index(request.index_url)
    if request.install_torch:
        backend = _backend(request)
        python["torch_backends"] = [backend] if backend else []
    return python


def _refuse_with_adopted(request: InitRequest, venv: Path) -> None:
    """What would make the environment another than it is."""
    options = (("--python", request.python), ("--require", request.require), ("--as-of", request.as_of))
    against = [option for option, value in options if value]
    if against:
        raise GovError(
            Code.USAGE,
            f"the environment {venv} is taken as it is, which {', '.join(against)} would change",
            "leave that out; later changes are transactions (gov tx run)",
        )


def _link_place(request: InitRequest) -> str:
    given = Path(request.venv or "").expanduser()
    place = given if given.is_absolute() else request.root.absolute() / given
    if place.exists() and not place.is_symlink():
        raise GovError(
            Code.ALREADY_EXISTS,
            f"{place} is an environment already; comfygov keeps its own beside it",
            "leave --venv out, or name a path that is not there yet",
        )
    if place.is_symlink() and not place.resolve().is_relative_to(request.root.absolute().resolve()):
        raise GovError(
            Code.ALREADY_EXISTS, f"{place} is a link of somebody else's, to {place.resolve()}", "name another --venv"
        )
    settings.refuse_own_place("--venv", request.root.absolute(), place)
    return str(given)


def _system() -> str:
    import sys

    return sys.platform


def interpreter_of(wanted: str | None) -> str:
    """The absolute path of the Python to build on: the wanted one, else the one that runs comfygov."""
    if wanted is None:
        import sys

        return uv.inspect_interpreter(getattr(sys, "_base_executable", sys.executable)).path
    is_path = "/" in wanted
    path = str(Path(wanted).expanduser().absolute()) if is_path else uv.Uv().find_python(wanted)
    if is_path and not Path(path).is_file():
        raise GovError(
            Code.NOT_FOUND,
            f"there is no Python at {path}",
            "name another with --python PATH or --python 3.12",
        )
    return uv.inspect_interpreter(path).path


def existing_directory(entry: str) -> str:
    if re.match(r"https?://", entry):
        return without_secrets("--find-links", entry)
    path = Path(entry).expanduser().absolute()
    if not path.is_dir():
        raise GovError(Code.USAGE, f"--find-links {path}: there is no such directory", "check the path")
    return str(path)


def _index(address: str) -> str:
    if not settings.is_index(address):
        raise GovError(Code.USAGE, f"--index-url `{address}` is no address", f"known: {settings.INDEX_RULE}")
    return without_secrets("--index-url", address)


def without_secrets(option: str, url: str) -> str:
    """The settings and every snapshot hold this address, so it may hold no password."""
    if without_credentials(url) != url:
        raise GovError(
            Code.USAGE, f"{option} holds credentials, which would be stored", "put them into ~/.netrc, which uv reads"
        )
    return url
