"""Random histories of changes, rollbacks, collections and kills: whatever is kept can be gone back to."""

from __future__ import annotations

import os
import signal
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from comfygov.ports import faults
from tests.faults.scenarios import Operation, Stage, faulty
from tests.kit.checker import problems

PACKS = ("one", "two", "three")
MOMENTS = sorted(set(faults.POINTS) - {"comfyui.launched", "comfyui.started", "init.settings", "init.code"})


class Histories(RuleBasedStateMachine):
    """`seen` is every snapshot's files as they were when it was made."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.stage.reset(Operation("nothing", ()))
        self.governed = self.stage.governed
        self.seen: dict[str, dict[str, bytes]] = {}
        self.collected = False
        self.remember()

    # -- what a person does ------------------------------------------------------------------------

    @rule(name=st.sampled_from(PACKS))
    def add_and_promote(self, name: str) -> None:
        registered = {plugin["id"]: plugin for plugin in self.governed.json("node", "list")["plugins"]}
        if name not in registered:
            self.governed.gov("node", "add", str(self.governed.root / "packs" / name)).ok()
        txid = self.governed.json("tx", "run", name)["transaction"]["txid"]
        self.governed.gov("tx", "promote", txid).ok()
        self.collected = False

    @rule(name=st.sampled_from(PACKS), purge=st.booleans())
    def remove(self, name: str, *, purge: bool) -> None:
        options = ["--purge-code"] if purge else []
        assert self.governed.gov("node", "remove", name, *options).exit_code in (0, 2)
        self.collected = False

    @rule(choice=st.integers(0, 1000))
    def go_back(self, choice: int) -> None:
        ids = self.snapshots()
        target = ids[choice % len(ids)]
        self.governed.gov("rollback", target).ok()
        head = self.stage.home / "snapshots" / self.governed.head()
        for name in ("pyproject.toml", "uv.lock", "plugins.json"):
            assert (head / name).read_bytes() == self.seen[target][name]
        self.collected = False

    @rule()
    def create(self) -> None:
        self.governed.gov("snapshot", "create").ok()
        self.collected = False  # an older snapshot may have gone by retention

    @rule(keep=st.integers(1, 6))
    def retain(self, keep: int) -> None:
        config = self.stage.home / "config.toml"
        text = config.read_text().partition("\n[rollback]")[0]
        config.write_text(f"{text}\n[rollback]\nsnapshot_retention = {keep}\n")

    @rule()
    def collect(self) -> None:
        self.governed.gov("gc").ok()
        self.collected = True

    @precondition(lambda self: len(self.seen) > 1)
    @rule(moment=st.sampled_from(MOMENTS), count=st.integers(1, 4), which=st.integers(0, 4))
    def die(self, moment: str, count: int, which: int) -> None:
        commands = (
            ("rollback", self.snapshots()[0]),
            ("node", "remove", "one"),
            ("gc",),
            ("snapshot", "create"),
            ("tx", "run", "one"),
        )
        ran = faulty(self.governed, f"kill@{moment}#{count}").gov(*commands[which])
        assert ran.exit_code in (0, 2, -signal.SIGKILL), ran
        self.governed.gov("snapshot", "create").ok()
        self.collected = False

    # -- what holds ----------------------------------------------------------------------------------

    @invariant()
    def the_home_is_whole(self) -> None:
        found = problems(self.stage.home, self.stage.user_files, collected=self.collected)
        assert not found, "\n".join(found)

    @invariant()
    def snapshots_never_change(self) -> None:
        self.remember()
        for name in self.snapshots():
            assert self.files(name) == self.seen[name]

    @invariant()
    def what_head_and_the_one_before_need_is_there(self) -> None:
        head = self.governed.json("status")
        assert (self.stage.home / ".venvs" / head["generation"]).is_dir()
        if self.collected:
            for meta in self.governed.json("snapshot", "list")["snapshots"]:
                assert (self.stage.home / ".venvs" / meta["generation"]).is_dir(), meta["id"]

    def snapshots(self) -> list[str]:
        return sorted(path.name for path in (self.stage.home / "snapshots").iterdir() if path.name[0].isdigit())

    def files(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.stage.home / "snapshots" / name).iterdir()}

    def remember(self) -> None:
        for name in self.snapshots():
            self.seen.setdefault(name, self.files(name))


@pytest.mark.slow
def test_random_histories(stage: Stage) -> None:
    Histories.stage = stage
    run_with = settings(
        max_examples=int(os.environ.get("COMFYGOV_TEST_HISTORIES", "8")),
        stateful_step_count=12,
        deadline=None,
        phases=[Phase.generate],  # to shrink would run hundreds more
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine(run_with)


def run_state_machine(run_with: settings) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Histories, settings=run_with)
