"""At least 300 kills at random times from outside; the seed is printed, and COMFYGOV_TEST_SEED repeats a run."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.faults.scenarios import Stage, operations

if TYPE_CHECKING:
    import subprocess

KILLS, SHARDS = 304, 8
SEED = int(os.environ.get("COMFYGOV_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
NEXT = (("gc",), ("snapshot", "create"), ("sync",), ("status",))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("shard", range(SHARDS))


def kill(child: subprocess.Popen[str], *, with_children: bool) -> None:
    """SIGKILL to the command alone, whose git and uv go on, or to all at once, as a power cut would."""
    try:
        process = psutil.Process(child.pid)
        process.suspend()
        family = process.children(recursive=True) if with_children else []
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    child.kill()
    child.communicate(timeout=30)


@pytest.mark.slow
def test_a_kill_at_a_random_time_leaves_the_old_or_the_new_state(stage: Stage, shard: int) -> None:
    # Printed by pytest when it fails: workers cannot print otherwise.
    print(f"COMFYGOV_TEST_SEED={SEED} (shard {shard})")
    chance = random.Random(f"{SEED}-{shard}")
    known = {operation.name: operation for operation in operations(stage.governed)}
    killed = attempts = 0
    while killed < KILLS // SHARDS:
        attempts += 1
        assert attempts < 3 * KILLS, "hardly any kill meets a living command"
        operation = known[chance.choice(sorted(known))]
        found = stage.outcomes(operation)
        stage.reset(operation)
        with_children, delay = chance.random() < 0.5, chance.uniform(0.02, found.seconds)
        child = stage.governed.start(*operation.command)
        time.sleep(delay)
        kill(child, with_children=with_children)
        killed += child.returncode == -signal.SIGKILL
        told = f"{operation.name} killed after {delay:.3f} s (children: {with_children}), seed {SEED}"
        try:
            follow_up = stage.governed.gov(*chance.choice(NEXT))
            assert "comfygov made a mistake" not in follow_up.stderr, follow_up
            stage.recover(operation)
            stage.judge(operation, found.allowed)
        except AssertionError as error:
            raise AssertionError(f"{told}: {error}") from error
