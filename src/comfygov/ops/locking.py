"""From a declaration to a lock and its environment: what init, trial, promote, remove and sync share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import locked
from comfygov.envs.generation import generation_id
from comfygov.errors import Code, GovError
from comfygov.model import builds
from comfygov.ops import production
from comfygov.ports import fs
from comfygov.resolve import alternatives, conflict, requirements
from comfygov.truth import declaration
from comfygov.truth.snapshots import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.model.config import Config
    from comfygov.model.state import Declaration
    from comfygov.ops.context import Context
    from comfygov.ports.uv import Interpreter

COMFYUI_GROUP = conflict.COMFYUI_GROUP
EXTRA_GROUP = "comfyui-extra"
PYTORCH_INDEX = "https://download.pytorch.org/whl"


class NoSolution(GovError):
    """The resolver says no; `uv_text` are its words."""

    def __init__(self, verdict: str, uv_text: str) -> None:
        super().__init__(
            Code.NO_SOLUTION, "no environment holds all requirements", "", tuple(uv_text.splitlines()[-30:])
        )
        self.verdict = verdict
        self.uv_text = uv_text


def with_settings(declared: Declaration, config: Config, python: Interpreter) -> Declaration:
    """`declared` with what config.toml says about resolution: settings take effect with the next change."""
    _refuse_unusable(config)
    return msgspec.structs.replace(
        alternatives.undone(declared, ()),
        requires_python=f"=={python.minor}.*",
        constraints=config.python.constraints,
        exclude=config.python.exclude,
        find_links=config.python.find_links,
        index_url=config.python.index_url,
        torch_backend=builds.chosen(config.python.torch_backends),
        torch_backends=builds.several(config.python.torch_backends),
        environments=builds.markers(
            (f"{python.system}-{python.machine}", *config.python.platforms), builds.floor_of(declared.environments)
        ),
        source_builds=config.policy.source_builds == "allow",
        exclude_newer=config.python.exclude_newer,
    )


def _refuse_unusable(config: Config) -> None:
    """What uv would call a conflict, or a failure of its own, and is a slip in config.toml. Commands that only read do
    not look: they would pay for it, and a lost folder must not stop them."""
    odd = [text for text in config.python.constraints if requirements.parse(text) is None]
    if odd:
        problem = f"config.toml: `{odd[0]}` in [python] constraints is not a requirement"
        raise GovError(Code.BAD_CONFIG, problem, "correct it, for example 'torch==2.11.*'")
    lost = [entry for entry in config.python.find_links if entry.startswith("/") and not Path(entry).is_dir()]
    if lost:
        problem = f"config.toml: {lost[0]}, named in [python] find_links, is no directory"
        raise GovError(Code.BAD_CONFIG, problem, "put the folder back, or correct the path in config.toml")


def render(declared: Declaration) -> bytes:
    index = os.environ.get(declaration.PYTORCH_INDEX_VARIABLE, PYTORCH_INDEX).rstrip("/")
    return declaration.render(declared, index).encode()


def lock(
    context: Context, directory: Path, declared: Declaration, preferred: bytes | None, upgrade: Sequence[str] = ()
) -> tuple[bytes, bytes]:
    """Lock `declared` in the work directory; versions of the `preferred` lock stay where they can, except for
    the packages in `upgrade`.

    Returns the bytes of pyproject.toml and uv.lock. Raises NoSolution.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pyproject = render(declared)
    fs.write_atomic(directory / "pyproject.toml", pyproject)
    if preferred is not None:
        fs.write_atomic(directory / "uv.lock", preferred)
    outcome = context.uv.lock(directory, context.interpreter.path, upgrade)
    if outcome.verdict != "locked":
        raise NoSolution(outcome.verdict, outcome.text)
    return pyproject, (directory / "uv.lock").read_bytes()


def write_project(directory: Path, state: State) -> Path:
    """The project files of `state` in a directory that uv may read."""
    fs.write_atomic(directory / "pyproject.toml", state.pyproject)
    fs.write_atomic(directory / "uv.lock", state.uv_lock)
    return directory


def identify(
    context: Context, directory: Path, pyproject: bytes, uv_lock: bytes, standing_in: dict[str, Path] | None = None
) -> str:
    """The id of the environment of `uv_lock` with the build of torch that `pyproject` chooses; `standing_in` says
    where a folder's wheels are as long as it is not there."""
    extras = locked.chosen_extras(pyproject)
    return generation_id(uv_lock, context.interpreter, directory, standing_in, extras)


def ensure_generation(context: Context, state: State, base: str | None, *, rebuild: bool = False) -> None:
    """Build the environment of `state` unless a sound one is there; needs no network when it is.

    With `rebuild` it is made anew in any case, and then put in the place of the one that is there.
    """
    if context.generations.is_sound(state.generation) and not rebuild:
        return
    refuse_under_running(context, state.generation)
    directory = context.home.work / f"build-{os.getpid()}"
    fs.remove_tree(directory)
    directory.mkdir(parents=True)
    try:
        write_project(directory, state)
        found = identify(context, directory, state.pyproject, state.uv_lock)
        if found != state.generation:
            raise GovError(
                Code.BUILD_FAILED,
                f"the environment of this snapshot cannot be built here again: the Python {context.interpreter.path} "
                f"({context.interpreter.version}) or a local wheel is not the one it was made with",
                "name the right Python under [python] interpreter in config.toml",
            )
        base = None if rebuild else base
        context.generations.build(directory, state.generation, context.interpreter, base, anew=rebuild)
    finally:
        fs.remove_tree(directory)


def refuse_under_running(context: Context, generation: str) -> None:
    """A damaged environment is built anew, but never under a ComfyUI that runs from it."""
    running = production.running(context)
    if running is not None and running.generation == generation and context.generations.exists(generation):
        message = f"ComfyUI (pid {running.pid}) runs from the damaged environment {generation} that is to be rebuilt"
        raise GovError(Code.RUNNING, message, "gov stop")
