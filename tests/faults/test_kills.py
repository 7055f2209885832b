"""SIGKILL, SIGTERM and Ctrl-C at every step of every operation that commits."""

from __future__ import annotations

import itertools

import pytest

from comfygov.ports import faults
from tests.faults.scenarios import (
    NAMES,
    Operation,
    Outcomes,
    Stage,
    first_and_last_of_each,
    first_of_each,
    numbered,
    operations,
)

SHARDS = 2
QUICK = ("promote-update", "rollback")
# Killed at every single step; of the others the same step is struck the first and the last time it comes.
WHOLE = ("promote-first", "promote-update", "rollback", "rollback-and-build")


def operation_of(stage: Stage, name: str) -> Operation:
    return next(operation for operation in operations(stage.governed) if operation.name == name)


def strike_everywhere(stage: Stage, operation: Operation, places: list[str], found: Outcomes) -> None:
    for place in places:
        stage.reset(operation)
        ran = stage.run(operation, place)
        action = place.split("@")[0]
        # What is only remembered is written in one run and not in the next, so the last step may not come.
        spared = place.endswith(f"#{found.moments.count(place.split('@')[1].split('#')[0])}")
        fatal = (-9, 0) if spared else (-9,)
        assert ran.exit_code in (fatal if action in ("kill", "tree") else (130, 0)), (place, ran)
        try:
            stage.recover(operation)
            stage.judge(operation, found.allowed)
        except AssertionError as error:
            raise AssertionError(f"after `gov {' '.join(operation.command)}` with {place}: {error}\n{ran}") from error


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_state(stage: Stage, name: str, shard: int) -> None:
    operation = operation_of(stage, name)
    found = stage.outcomes(operation)
    steps = numbered(found.moments) if name in WHOLE else first_and_last_of_each(found.moments)
    places = [f"kill@{place}" for place in steps][shard::SHARDS]
    strike_everywhere(stage, operation, places, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_signal_at_any_kind_of_step_does_too(stage: Stage, name: str) -> None:
    """SIGTERM, Ctrl-C and SIGKILL to all children in turn: each kind of step meets each of them somewhere."""
    operation = operation_of(stage, name)
    found = stage.outcomes(operation)
    actions = itertools.islice(itertools.cycle(("term", "int", "tree")), NAMES.index(name) % 3, None)
    places = [f"{action}@{place}" for action, place in zip(actions, first_of_each(found.moments), strict=False)]
    strike_everywhere(stage, operation, places, found)


@pytest.mark.quick
@pytest.mark.parametrize("name", QUICK)
def test_a_kill_at_each_kind_of_step(stage: Stage, name: str) -> None:
    operation = operation_of(stage, name)
    found = stage.outcomes(operation)
    strike_everywhere(stage, operation, [f"kill@{place}" for place in first_of_each(found.moments)], found)


@pytest.mark.slow
def test_every_moment_that_has_a_name_comes(stage: Stage) -> None:
    """Those of a restart need a running ComfyUI: tests/faults/test_running.py."""
    seen: set[str] = set()
    for operation in operations(stage.governed):
        seen |= set(stage.outcomes(operation).moments)
    assert set(faults.POINTS) - seen == {"comfyui.launched", "comfyui.started"}
