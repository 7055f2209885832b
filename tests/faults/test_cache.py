"""The object cache that all homes share survives the death of a git in it."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.scenarios import Operation, Stage
from tests.faults.test_random_kills import SEED, kill


@pytest.fixture
def fresh(stage: Stage) -> Stage:
    stage.reset(Operation("nothing", ()))
    return stage


def cached(stage: Stage, name: str) -> Path:
    """The cache repository of a pack that was added."""
    before = set((stage.governed.root / "cache" / "git").glob("*.git"))
    stage.governed.gov("node", "add", str(stage.governed.root / "packs" / name)).ok()
    (found,) = set((stage.governed.root / "cache" / "git").glob("*.git")) - before
    return found


@pytest.mark.parametrize("lock", ["HEAD.lock", "config.lock", "packed-refs.lock", "refs/source/heads/main.lock"])
def test_a_lock_that_a_dead_git_left_is_no_obstacle(fresh: Stage, lock: str) -> None:
    repository = cached(fresh, "three")
    fresh.governed.gov("node", "remove", "three", "--purge-code").ok()
    (repository / lock).parent.mkdir(parents=True, exist_ok=True)
    (repository / lock).touch()
    fresh.governed.gov("node", "add", str(fresh.governed.root / "packs" / "three")).ok()


def test_a_repository_that_was_being_made_is_made_again(fresh: Stage) -> None:
    repository = cached(fresh, "three")
    fresh.governed.gov("node", "remove", "three", "--purge-code").ok()
    shutil.rmtree(repository)
    (repository / "objects").mkdir(parents=True)
    (repository / "HEAD.lock").touch()
    fresh.governed.gov("node", "add", str(fresh.governed.root / "packs" / "three")).ok()


@pytest.mark.slow
def test_after_a_kill_of_all_the_same_command_works(stage: Stage) -> None:
    chance = random.Random(SEED)
    print(f"COMFYGOV_TEST_SEED={SEED}")
    add = ("node", "add", str(stage.governed.root / "packs" / "three"))
    for _ in range(25):
        stage.reset(Operation("nothing", ()))
        child = stage.governed.start(*add)
        time.sleep(chance.uniform(0.05, 0.35))
        kill(child, with_children=True)
        ran = stage.governed.gov(*add)
        assert ran.exit_code == 0 or "registered already" in ran.stderr, ran
