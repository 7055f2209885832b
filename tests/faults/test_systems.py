"""Disks that fill up, file systems that lack something, clocks that jump: the same promises."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfygov.ports.comfy_api import free_port
from tests.faults.scenarios import Operation, Stage, faulty, operations
from tests.kit import seccomp
from tests.kit.checker import problems
from tests.kit.governed import Governed

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK_MEGABYTES = 96
ROOM_KILOBYTES = (0, 4, 12, 24, 48, 96, 200, 400, 800)
GROWING = ("node-add", "node-remove", "tx-run", "promote-first", "promote-update", "rollback-and-build", "gc")
without_seccomp = pytest.mark.skipif(not seccomp.available(), reason="seccomp is Linux on two architectures")


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("disk")
    with mounted(place, "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "none"):
        yield Stage(Governed(place)).build()


def fill(stage: Stage, room_kilobytes: int) -> Path:
    filler = stage.governed.root / "filler"
    with filler.open("wb") as file:
        while shutil.disk_usage(filler).free:
            os.write(file.fileno(), b"0" * min(65536, shutil.disk_usage(filler).free))
    os.truncate(filler, max(0, filler.stat().st_size - room_kilobytes * 1024))
    return filler


@pytest.mark.slow
@pytest.mark.parametrize("name", GROWING)
def test_a_disk_that_fills_up_leaves_the_old_or_the_new_state(small_disk: Stage, name: str) -> None:
    stage = small_disk
    operation = next(operation for operation in operations(stage.governed) if operation.name == name)
    allowed = stage.outcomes(operation).allowed
    refused = 0
    for room in ROOM_KILOBYTES:
        stage.reset(operation)
        filler = fill(stage, room)
        ran = stage.run(operation)
        filler.unlink()
        assert "comfygov made a mistake" not in ran.stderr, ran
        if ran.exit_code != 0:
            refused += 1
            assert "full" in ran.stderr or "No space left" in ran.stderr, ran
        stage.recover(operation)
        stage.judge(operation, allowed)
    assert refused, "the disk was never full"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["promote-update", "rollback-and-build", "node-remove", "snapshot-create"])
def test_any_write_may_meet_a_full_disk(stage: Stage, name: str) -> None:
    operation = next(operation for operation in operations(stage.governed) if operation.name == name)
    found = stage.outcomes(operation)
    for number in range(1, 1 + found.moments.count("write.staged")):
        stage.reset(operation)
        ran = stage.run(operation, f"full@write.staged#{number}")
        assert ran.exit_code == 0 or "full" in ran.stderr, ran
        stage.recover(operation)
        stage.judge(operation, found.allowed)


def behind_filter(stage: Stage, calls: str) -> Governed:
    return Governed(stage.governed.root, prefix=(sys.executable, str(Path(seccomp.__file__)), calls))


@pytest.fixture
def fresh(stage: Stage) -> Stage:
    stage.reset(Operation("nothing", ()))
    return stage


@without_seccomp
def test_a_file_system_without_hardlinks_gets_copies(fresh: Stage) -> None:
    linkless = behind_filter(fresh, f"link={errno.EPERM},linkat={errno.EPERM}")
    linkless.gov("tx", "promote", "2").ok()
    linkless.gov("node", "remove", "one", "--purge-code").ok()
    linkless.gov("node", "add", str(linkless.root / "packs" / "three")).ok()
    linkless.gov("tx", "run", "three").ok()
    linkless.gov("tx", "promote", "4").ok()
    linkless.gov("gc").ok()
    assert not problems(linkless.home, fresh.user_files)
    production = (linkless.home / ".venv-prod").resolve()
    new = next(production.glob("lib/python3*/site-packages/third/__init__.py"))
    assert new.stat().st_nlink == 1


@without_seccomp
def test_locks_that_do_nothing_are_noticed_and_said(fresh: Stage) -> None:
    lockless = behind_filter(fresh, "flock=0")
    said = lockless.gov("snapshot", "create").ok()
    assert "locks do nothing" in said.stderr
    lockless.gov("verify").failed(3, "locks do nothing", "local disk")
    said = fresh.governed.gov("snapshot", "create").ok()
    assert "locks do nothing" not in said.stderr


@without_seccomp
def test_a_file_system_without_locks_is_one_where_they_do_nothing(fresh: Stage) -> None:
    said = behind_filter(fresh, f"flock={errno.ENOLCK}").gov("snapshot", "create").ok()
    assert "locks do nothing" in said.stderr


def test_a_home_that_cannot_be_written_can_be_read(fresh: Stage) -> None:
    governed = fresh.governed
    with mounted(fresh.home, "--bind", str(fresh.home)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(fresh.home)], check=True)
        for command in ("status", "audit --check", "snapshot list", "tx list", "tx inspect 3", "node list"):
            governed.gov(*command.split()).ok()
        for operation in operations(governed):
            if operation.name not in ("init", "gc", "sync"):
                governed.gov(*operation.command).failed(1, "cannot be written: Read-only file system")
    assert not problems(fresh.home, fresh.user_files, collected=False)


def test_a_clock_that_jumps_changes_no_order(fresh: Stage) -> None:
    years = 10 * 365 * 86_400
    for offset, command in (
        (-years, ("tx", "promote", "2")),
        (years, ("node", "disable", "one")),
        (0, ("snapshot", "create")),
        (-years, ("rollback", "1")),
        (years, ("gc",)),
        (0, ("sync",)),
    ):
        faulty(fresh.governed, f"clock@{offset}").gov(*command).ok()
        fresh.governed.gov("status").ok()
        fresh.governed.gov("audit", "--check").ok()
    assert not problems(fresh.home, fresh.user_files)
    numbers = [meta["number"] for meta in fresh.governed.json("snapshot", "list")["snapshots"]]
    assert numbers == sorted(numbers)


def test_a_clock_that_jumps_does_not_make_comfyui_look_dead(fresh: Stage) -> None:
    fresh.governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    try:
        for offset in (-86_400, 86_400):
            assert faulty(fresh.governed, f"clock@{offset}").json("status")["running"]
    finally:
        fresh.governed.gov("stop").ok()


def test_a_cache_that_is_gone_is_filled_again(fresh: Stage) -> None:
    for cache in ("cache", "uv-cache"):
        shutil.rmtree(fresh.governed.root / cache)
    fresh.governed.gov("tx", "promote", "2").ok()
    fresh.governed.gov("rollback", "1").ok()
    assert not problems(fresh.home, fresh.user_files, collected=False)
