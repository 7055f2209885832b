"""The check of a `gov bisect`: a command or a smoke workflow, on a private copy of a state, in the sandbox."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import Baseline
from comfygov.ops import boxing, locking, smoke, trying
from comfygov.ops.bisect_walk import Verdict
from comfygov.ops.context import LOCK_WAIT_SECONDS, Context, hidden
from comfygov.ports import fs, lock
from comfygov.trial import boot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.truth.snapshots import State

SKIP_EXIT_CODE = 125
"""What `git bisect run` means by it too: the state cannot be judged."""

# A state that cannot be made here again is neither good nor bad; a full disk or a busy home is no property of it.
_UNMAKEABLE = (
    *(Code.BUILD_FAILED, Code.NETWORK, Code.BAD_SOURCE, Code.REF_NOT_FOUND, Code.TOOL_FAILED, Code.TIMEOUT),
    *(Code.ENVIRONMENT_DAMAGED, Code.NO_SOLUTION),
)


@dataclasses.dataclass(frozen=True)
class Check:
    """`argv`, or the API-format workflow in the file `workflow`. `shown` is free of secrets."""

    shown: str
    argv: tuple[str, ...] = ()
    workflow: Path | None = None


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the check said of a state. `log` is the whole of what was printed; `built` says that the environment
    had to be made again."""

    verdict: Verdict
    reason: str
    lines: tuple[str, ...] = ()
    log: Path | None = None
    built: bool = False


def read(words: Sequence[str], environments: Sequence[Path]) -> Check:
    """The check that a person wrote, refused when it cannot be one in any of the environments."""
    shown = hidden(shlex.join(words))
    if len(words) == 1 and words[0].endswith(".json"):
        return Check(shown, workflow=_workflow(Path(words[0])))
    return Check(shown, argv=(_program(words[0], environments), *words[1:]))


def _workflow(path: Path) -> Path:
    try:
        msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        raise GovError(Code.NOT_FOUND, f"there is no workflow {path}", "check the path") from error
    except (OSError, msgspec.MsgspecError) as error:
        message = f"{path} is no workflow in ComfyUI's API format: {error}"
        raise GovError(Code.USAGE, message, "in ComfyUI: Workflow, Export (API)") from error
    return path.absolute()


def _program(word: str, environments: Sequence[Path]) -> str:
    """The check's program: a path starts where the person is, a bare name is looked for by each state."""
    if "/" in word:
        path = Path(word).expanduser().absolute()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise GovError(Code.NOT_FOUND, f"there is no program {path}", "check the path, and its mode (chmod +x)")
        return str(path)
    places = os.pathsep.join([*(str(path / "bin") for path in environments), os.environ.get("PATH", "")])
    if all(path.is_dir() for path in environments) and shutil.which(word, path=places) is None:
        raise GovError(Code.NOT_FOUND, f"there is no program `{word}`", "give its path")
    return word


def judge(
    context: Context, check: Check, state: State, name: str, log: Path, timeout_seconds: float | None
) -> Judgement:
    """Run the check on a copy of `state`; what it prints goes into files that begin with `log`."""
    try:
        try:
            built = _ensure_environment(context, state)
            plan = trying.plan(context, state, name, _environment(context, state, name), timeout_seconds)
        except GovError as error:
            if error.code not in _UNMAKEABLE:
                raise
            return Judgement("skip", f"it cannot be made here: {error.message}", error.details)
        log.parent.mkdir(parents=True, exist_ok=True)
        run = _run_workflow if check.workflow else _run_command
        return dataclasses.replace(run(context, check, plan, log), built=built)
    finally:
        for part in ("boot", "env"):
            fs.remove_tree(context.home.work / f"{name}-{part}")


def refuse_damaged_production(context: Context, states: Sequence[State]) -> None:
    """What is missing is built beside; but to build production's own environment anew is to change production."""
    head = context.snapshots.require_head().generation
    if any(state.generation == head for state in states) and not context.generations.is_sound(head):
        raise GovError(Code.ENVIRONMENT_DAMAGED, "production's own environment is missing or damaged", "gov sync")


def _ensure_environment(context: Context, state: State) -> bool:
    """Build the environment of `state` unless it is there; True when it was built."""
    if context.generations.is_sound(state.generation):
        return False
    with lock.exclusive(context.home.lock_file, context.command, LOCK_WAIT_SECONDS):
        locking.ensure_generation(context, state, context.snapshots.require_head().generation)
    return True


def _environment(context: Context, state: State, name: str) -> Path:
    """The sealed environment where nothing can write to it, else a copy."""
    sealed = context.generations.path(state.generation).absolute()
    if boxing.box(context).protects_environment:
        return sealed
    own = context.home.work.absolute() / f"{name}-env"
    fs.remove_tree(own)
    fs.hardlink_tree(sealed, own)
    fs.unshare_tree(own)
    return own


def _run_command(_context: Context, check: Check, plan: boot.BootPlan, log: Path) -> Judgement:
    ended = boot.run_script(plan, ["/usr/bin/env", *check.argv], plan.tree)
    whole = plan.script_log.replace(log.with_name(f"{log.name}.log"))
    return Judgement(*_meaning(ended.exit_code, plan.timeout_seconds), ended.lines, whole)


def _meaning(exit_code: int | None, timeout_seconds: float) -> tuple[Verdict, str]:
    if exit_code is None:
        return "bad", f"did not end in {timeout_seconds:g} s"
    if exit_code < 0:
        return "bad", f"signal {-exit_code}"
    verdict: Verdict = "good" if exit_code == 0 else "skip" if exit_code == SKIP_EXIT_CODE else "bad"
    return verdict, f"exit code {exit_code}"


def _run_workflow(context: Context, check: Check, plan: boot.BootPlan, log: Path) -> Judgement:
    """A state whose ComfyUI does not come up cannot run the workflow either: it is bad."""
    stdout, stderr = (log.with_name(f"{log.name}.{stream}.log") for stream in ("stdout", "stderr"))
    plan = dataclasses.replace(plan, stdout=stdout, stderr=stderr)
    workflow = str(check.workflow)
    try:
        with boot.booted(plan) as booted:
            one = _for_workflow(context, workflow, plan.timeout_seconds)
            [gate], _ = smoke.workflows(one, booted.api, Baseline())
    except boot.BootFailed as failure:
        return Judgement("bad", failure.message, failure.details, stderr)
    reason = gate.reason.removeprefix(workflow).lstrip(": ")
    return Judgement("good" if gate.verdict == "pass" else "bad", reason, gate.evidence, stderr)


def _for_workflow(context: Context, workflow: str, timeout_seconds: float) -> Context:
    """The context with this one workflow in the place of those that the settings name."""
    tx = msgspec.structs.replace(context.config.tx, smoke_workflows=(workflow,), timeout_seconds=timeout_seconds)
    home = dataclasses.replace(context.home, config=msgspec.structs.replace(context.config, tx=tx))
    return Context(home, context.command, context.progress)
