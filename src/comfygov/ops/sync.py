"""`gov sync`: bring the disk to what head says, by building anew, never by patching."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ops.context import changing
from comfygov.ports.progress import Stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context
    from comfygov.truth.snapshots import State


class SyncResult(msgspec.Struct, frozen=True):
    """`repaired` says what was found and mended, one line each."""

    snapshot: str
    repaired: tuple[str, ...]


def sync(context: Context) -> SyncResult:
    """Repair production from head."""
    with changing(context):
        return repair(context)


def repair(context: Context) -> SyncResult:
    """The same, with the lock held."""
    from comfygov.ops import committing, locking
    from comfygov.truth import audit, checkouts, commit

    head = context.snapshots.require_head()
    state = context.snapshots.read(head.snapshot)
    checkouts.refuse_lost_place(context.home, context.git, state)
    found = drift(context, state, thorough=True)
    committing.keep_hand_edits(context)
    checkouts.stand_again(context.home, context.git, state)
    checkouts.refuse_foreign(context.home, context.git, state, state)
    checkouts.fetch_missing(context.home, context.git, state)
    checkouts.refuse_obstacles(context.home, context.git, state)
    running = committing.code_under_running(context, state)
    if running is not None:
        raise GovError(Code.RUNNING, f"ComfyUI runs (pid {running.pid}) with code that is to be repaired", "gov stop")
    found += _without_cut_bytecode(context)
    damaged = any(line.startswith("environment") for line in found)
    if damaged or not context.generations.is_sound(state.generation):
        with Stages(context.progress).stage("environment"):
            locking.ensure_generation(context, state, None, rebuild=damaged)
    if found:
        line = audit.entry(context.command, "sync", reason=f"{len(found)} repaired")
        commit.record(context.truth, line, repair=state)
    else:
        commit.materialise(context.home, context.git, state)
    return SyncResult(head.snapshot, tuple(found))


def _without_cut_bytecode(context: Context) -> Iterator[str]:
    from comfygov.ports import bytecode

    python = context.config.python.interpreter
    for path in bytecode.cut_off(python, context.home.comfyui) if os.access(python, os.X_OK) else ():
        path.unlink(missing_ok=True)
        yield f"{context.home.relative(path)}: was cut off, by a full disk, and is gone; Python makes it anew"


def drift(context: Context, state: State, *, thorough: bool) -> list[str]:
    """Where the disk is not what head says. `thorough` looks at each file of the environment, whatever is
    remembered of it."""
    found = [f"{name}: differs from head" for name in edited_truth(context, state)]
    generations = context.generations
    found += generations.problems(state.generation)
    if thorough and generations.exists(state.generation):
        found += [line for line in generations.closely(state.generation) if line not in found]
    link = context.home.production_link
    if not link.is_symlink() or os.path.realpath(link) != str(context.home.venvs.resolve() / state.generation):
        found.append(f"{link.name}: does not point to {state.generation}")
    return found + _code_drift(context, state)


def lost_interpreter(context: Context) -> Iterator[str]:
    """Nothing differs from head then, and still nothing can be started or built; a repair does not mend it."""
    python = context.config.python.interpreter
    if "/" in python and not os.access(python, os.X_OK):
        yield f"there is no Python {python} ([python] interpreter in config.toml)"


def edited_truth(context: Context, state: State) -> Iterator[str]:
    """Names of truth files that are not what head says. A link is none of them, whatever it leads to."""
    for name, data in state.truth().items():
        path = context.home.truth_path(name)
        if path.is_symlink() or not path.is_file() or path.read_bytes() != data:
            yield name


def _code_drift(context: Context, state: State) -> list[str]:
    from comfygov.ports import clones
    from comfygov.truth import checkouts

    found = []
    for name, checkout, _, commit_id in checkouts.targets(context.home, state):
        at = context.git.head(checkout)
        if at is None:
            what = "is no git checkout" if checkout.exists() else "is not there"
            found.append(f"{name}: {what} ({checkout}), head says {commit_id[:10]}")
        elif at != commit_id:
            found.append(f"{name}: is at {at[:10]}, head says {commit_id[:10]}")
        elif not clones.in_place(context.git, checkout, commit_id):
            found.append(f"{name}: a submodule is at another commit")
    return found


def unmanaged(context: Context, state: State) -> list[str]:
    """Entries of custom_nodes that comfygov does not know; production does not load them."""
    known = {plugin.entry for plugin in state.registry.plugins}
    directory = context.home.custom_nodes
    if not directory.is_dir():
        return []
    shipped = {"websocket_image_save.py", "example_node.py.example", "__pycache__"}
    names = (entry.name for entry in directory.iterdir())
    return sorted(
        name
        for name in names
        if name not in known | shipped and not name.endswith(".disabled") and not name.startswith(".")
    )
