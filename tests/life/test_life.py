"""add -> trial -> inspect -> promote -> rollback, and what each leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.repos import commit_all, git

if TYPE_CHECKING:
    from tests.kit.governed import Governed


def test_init_makes_a_home_that_says_it_is_healthy(governed: Governed) -> None:
    status = governed.json("status")
    assert status["prod_env_exists"]
    assert status["lock_exists"]
    assert status["head"] == "0001-init"
    assert status["drift"] == []
    assert governed.installed() == {"basis-1.0"}
    assert (governed.home / ".venv" / "bin" / "activate").is_file()
    assert "checkpoints" in (governed.home / "extra_model_paths.yaml").read_text()


def test_a_pack_goes_from_add_to_production_and_back(governed: Governed) -> None:
    governed.wheel("extra", "2.0", ("basis",))
    pack = governed.pack("My-Pack", "extra>=1  # why\n")
    before = governed.world()
    added = governed.json("node", "add", str(pack))
    assert added["plugin"]["group"] == "node-my-pack"
    assert not added["plugin"]["enabled"]
    detail = governed.json("tx", "run", "My-Pack")
    tx = detail["transaction"]
    assert tx["status"] == "completed"
    assert tx["kind"] == "node_first_run"
    assert tx["diff"]["added"] == [{"name": "extra", "version": "2.0"}]
    assert tx["pre_freeze"] == ["basis==1.0"]
    assert tx["post_freeze"] == ["basis==1.0", "extra==2.0"]
    assert {gate["name"]: gate["verdict"] for gate in tx["gates"]}["pack_loads"] == "pass"
    assert governed.installed() == {"basis-1.0"}, "a trial never touches production"

    promoted = governed.json("tx", "promote", tx["txid"])
    assert promoted["transaction"]["status"] == "promoted"
    assert governed.installed() == {"basis-1.0", "extra-2.0"}
    assert not (governed.home / ".venv-candidate" / tx["txid"]).exists()

    governed.gov("rollback", "1").ok()
    after = governed.world()
    for name in ("uv.lock", "pyproject.toml", "state/plugins.json", "link", "installed"):
        assert after[name] == before[name], name
    governed.gov("rollback", promoted["snapshot"]["id"]).ok()
    assert governed.installed() == {"basis-1.0", "extra-2.0"}


def test_production_loads_exactly_the_enabled_packs(governed: Governed) -> None:
    governed.promote_pack("first")
    governed.promote_pack("second")
    governed.gov("node", "add", str(governed.pack("third"))).ok()
    (governed.home / "ComfyUI" / "custom_nodes" / "stranger").mkdir()
    governed.gov("node", "disable", "second").ok()
    classes = _classes_of_production(governed)
    assert "first" in classes
    assert not classes & {"second", "third"}
    assert governed.json("node", "list")["unmanaged"] == ["stranger"]
    governed.gov("node", "enable", "second").ok()
    assert {"first", "second"} <= _classes_of_production(governed)


def _classes_of_production(governed: Governed) -> set[str]:
    from comfygov.ports.comfy_api import ComfyApi, free_port

    port = free_port()
    governed.gov("run", "--detach", "--", "--port", str(port)).ok()
    try:
        return set(ComfyApi("127.0.0.1", port).object_info())
    finally:
        governed.gov("stop").ok()


def test_remove_takes_the_packages_that_nothing_else_needs(governed: Governed) -> None:
    governed.wheel("shared", "1.0")
    governed.wheel("alone", "1.0")
    governed.promote_pack("one", "shared\nalone\n")
    governed.promote_pack("two", "shared\n")
    (governed.home / "ComfyUI" / "custom_nodes" / "one" / "my-settings.json").write_text("{}")
    removed = governed.json("node", "remove", "one")
    assert removed["packages"]["removed"] == [{"name": "alone", "version": "1.0"}]
    assert governed.installed() == {"basis-1.0", "shared-1.0"}
    assert (governed.home / "ComfyUI" / "custom_nodes" / "one" / "my-settings.json").is_file()
    governed.gov("rollback", removed["snapshot_pre"]).ok()
    assert governed.installed() == {"basis-1.0", "shared-1.0", "alone-1.0"}


def test_purge_deletes_the_code_and_keeps_what_the_user_put_there(governed: Governed) -> None:
    governed.promote_pack("one")
    folder = governed.home / "ComfyUI" / "custom_nodes" / "one"
    (folder / "weights").mkdir()
    (folder / "weights" / "mine.bin").write_bytes(b"mine")
    (folder / "__init__.py").write_text("edited")
    removed = governed.json("node", "remove", "one", "--purge-code")
    assert not folder.exists()
    rescued = governed.home / removed["rescued"]
    assert (rescued / "weights" / "mine.bin").read_bytes() == b"mine"
    assert (rescued / "__init__.py").read_text() == "edited"
    governed.gov("rollback", removed["snapshot_pre"]).ok()
    assert (folder / "__init__.py").read_text() != "edited"


def test_a_pack_that_breaks_the_boot_is_caught(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("bad", files={"__init__.py": "import os\nos._exit(7)\n"}))).ok()
    before = governed.world()
    ran = governed.gov("tx", "run", "bad", "--json")
    assert ran.exit_code == 1
    tx = ran.data["transaction"]
    assert tx["status"] == "failed"
    assert tx["logs"]["run_exit_code"] == 7
    assert "ended while it started" in tx["error"]
    governed.gov("tx", "promote", tx["txid"]).failed(1, "failed", "gov tx inspect")
    governed.gov("tx", "abort", tx["txid"]).ok()
    assert governed.world() == before
    assert list((governed.home / ".venv-candidate").iterdir()) == []


def test_a_pack_that_does_not_import_is_named_with_its_reason(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("bad", files={"__init__.py": "import nowhere\n"}))).ok()
    governed.gov("tx", "run", "bad").failed(
        1, "No module named 'nowhere'", "neither the pack nor what it declares has `nowhere`"
    )


def test_a_pack_that_breaks_another_is_caught(governed: Governed) -> None:
    governed.promote_pack("good", files={"__init__.py": GOOD_UNLESS_SPOILED})
    spoiler = "import os, sys\nsys.modules['spoiled'] = os\nNODE_CLASS_MAPPINGS = {}\n"
    files = {"__init__.py": spoiler, "prestartup_script.py": "import sys, os\nsys.modules['spoiled'] = os\n"}
    governed.gov("node", "add", str(governed.pack("spoiler", files=files))).ok()
    governed.gov("tx", "run", "spoiler").failed(1, "nothing_broken", "good does not load any more: spoiled")


GOOD_UNLESS_SPOILED = """
import sys
if "spoiled" in sys.modules:
    raise RuntimeError("spoiled")
NODE_CLASS_MAPPINGS = {}
"""


def test_a_conflict_is_told_and_leaves_everything_as_it_was(governed: Governed) -> None:
    governed.wheel("basis", "2.0")
    governed.gov("node", "add", str(governed.pack("wants-two", "basis>=2\n"))).ok()
    governed.wheel("other", "1.0", ("basis<2",))
    governed.promote_pack("wants-one", "other\n")
    before = governed.world()
    ran = governed.gov("tx", "run", "wants-two").failed(4, "wants-one and wants-two want different versions of basis")
    assert "needs_resolution" in ran.stdout
    report = json.loads((governed.home / "state" / "conflicts" / "tx0002.json").read_bytes())
    assert set(report["groups"]) == {"node-wants-one", "node-wants-two"}
    assert governed.world() == before
    governed.gov("tx", "promote", "2").failed(1, "needs_resolution")


def test_a_line_that_nobody_can_read_is_named(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("typo", "basis\nbasis=>1\n"))).ok()
    governed.gov("tx", "run", "typo").failed(4, "requirements.txt line 2", "basis>=1")


def test_core_packages_need_an_approval_that_is_recorded(governed: Governed) -> None:
    governed.wheel("numpy", "1.0")
    governed.gov("node", "add", str(governed.pack("wants-numpy", "numpy\n"))).ok()
    txid = governed.json("tx", "run", "wants-numpy")["transaction"]["txid"]
    governed.gov("tx", "promote", txid).failed(1, "+ numpy 1.0", "--approve-core")
    governed.gov("tx", "promote", txid, "--approve-core").failed(1, "--reason")
    done = governed.json("tx", "promote", txid, "--approve-core", "--reason", "we need it")
    assert done["transaction"]["promotion"]["approved_changes"] == ["+ numpy 1.0"]
    line = json.loads((governed.home / "state" / "audit.jsonl").read_text().splitlines()[-1])
    assert (line["approved"], line["reason"]) == (["+ numpy 1.0"], "we need it")


def test_an_update_is_tried_at_its_ref_and_comes_back(governed: Governed) -> None:
    pack = governed.pack("moving", classes="Old")
    first = git(pack, "rev-parse", "HEAD")
    governed.gov("node", "add", str(pack)).ok()
    governed.gov("tx", "run", "moving").ok()
    governed.gov("tx", "promote", "1").ok()
    (pack / "__init__.py").write_text((pack / "__init__.py").read_text().replace("Old", "New"))
    second = commit_all(pack)
    folder = governed.home / "ComfyUI" / "custom_nodes" / "moving"
    (folder / "cache.bin").write_bytes(b"user")
    detail = governed.json("tx", "run", "moving", "--ref", "main")
    assert detail["transaction"]["kind"] == "node_update"
    assert git(folder, "rev-parse", "HEAD") == first
    promoted = governed.json("tx", "promote", "2")
    assert git(folder, "rev-parse", "HEAD") == second
    governed.gov("rollback", promoted["transaction"]["promotion"]["snapshot_pre"]).ok()
    assert git(folder, "rev-parse", "HEAD") == first
    assert (folder / "cache.bin").read_bytes() == b"user"


def test_edits_of_the_user_stop_an_update_before_it_starts(governed: Governed) -> None:
    pack = governed.pack("mine")
    governed.gov("node", "add", str(pack)).ok()
    governed.gov("tx", "run", "mine").ok()
    governed.gov("tx", "promote", "1").ok()
    (pack / "new.txt").write_text("x")
    commit_all(pack)
    governed.gov("tx", "run", "mine", "--ref", "main").ok()
    edited = governed.home / "ComfyUI" / "custom_nodes" / "mine" / "__init__.py"
    edited.write_text(edited.read_text() + "# mine\n")
    head = governed.head()
    governed.gov("tx", "promote", "2").failed(1, "mine: __init__.py (edited)")
    assert governed.head() == head
    assert edited.read_text().endswith("# mine\n")
    assert governed.json("tx", "inspect", "2")["transaction"]["status"] == "completed", "refused, not failed"


def test_a_trial_whose_base_moved_is_run_again(governed: Governed) -> None:
    governed.wheel("late", "1.0")
    governed.gov("node", "add", str(governed.pack("slow"))).ok()
    governed.gov("tx", "run", "slow").ok()
    governed.promote_pack("quick", "late\n")
    done = governed.json("tx", "promote", "1")
    assert done["retried_trial"]
    assert governed.installed() == {"basis-1.0", "late-1.0"}
    registered = json.loads((governed.home / "state" / "plugins.json").read_bytes())["plugins"]
    assert {p["id"]: p["enabled"] for p in registered} == {"quick": True, "slow": True}


@pytest.mark.parametrize(
    "fault", ["int@trial.prepared", "kill@trial.booted", "tree@trial.prepared", "kill@tree.doomed"]
)
def test_a_repeated_trial_that_is_interrupted_leaves_the_transaction_as_promotable(
    governed: Governed, fault: str
) -> None:
    governed.wheel("late", "1.0")
    governed.gov("node", "add", str(governed.pack("slow"))).ok()
    governed.gov("tx", "run", "slow").ok()
    governed.promote_pack("quick", "late\n")
    before = governed.json("tx", "inspect", "1")["transaction"]
    governed.env["COMFYGOV_FAULT"] = fault
    assert governed.gov("tx", "promote", "1").exit_code in (130, -9)
    del governed.env["COMFYGOV_FAULT"]
    governed.gov("snapshot", "create").ok()
    assert governed.json("tx", "inspect", "1")["transaction"] == {**before, "candidate_env": None}
    governed.gov("rollback", before["base_snapshot"]).ok()  # where it was tried; its environment is gone with the other
    assert governed.json("tx", "promote", "1")["retried_trial"]
    assert governed.json("verify", "--deep") is not None


def test_init_again_repairs_what_was_damaged(governed: Governed) -> None:
    generation = Path(os.path.realpath(governed.home / ".venv-prod"))
    module = next(generation.glob("lib/python3*/site-packages/basis/__init__.py"))
    module.unlink()
    (governed.home / "uv.lock").write_text("gone")
    (governed.home / ".venv-prod").unlink()
    again = governed.gov("init", "--json").ok().data
    assert not again["created"]
    assert any("basis" in line for line in again["repaired"])
    assert governed.json("status")["drift"] == []
    assert list(Path(os.path.realpath(governed.home / ".venv-prod")).glob("lib/*/site-packages/basis/__init__.py"))


def test_snapshots_are_found_by_number_and_compared(governed: Governed) -> None:
    governed.wheel("extra", "2.0")
    governed.promote_pack("one", "extra\n")
    made = governed.json("snapshot", "create", "--reason", "before the weekend")
    listed = governed.json("snapshot", "list")
    assert listed["snapshots"][-1]["reason"] == "before the weekend"
    assert listed["head"] == governed.head() != made["id"]
    diff = governed.json("snapshot", "diff", "1", str(made["number"]))
    assert diff["packages"]["added"] == [{"name": "extra", "version": "2.0"}]
    assert [change["id"] for change in diff["nodes"]] == ["one"]
    governed.gov("snapshot", "inspect", "99").failed(2, "gov snapshot list")
    governed.gov("rollback", "nothing").failed(2, "there is no snapshot `nothing`")


def test_retention_keeps_head_and_the_way_back(governed: Governed) -> None:
    config = governed.home / "config.toml"
    config.write_text(config.read_text() + "\n[rollback]\nsnapshot_retention = 3\n")
    for number in range(6):
        governed.gov("snapshot", "create", "--reason", str(number)).ok()
    listed = governed.json("snapshot", "list")
    names = [meta["id"] for meta in listed["snapshots"]]
    assert listed["head"] in names
    assert len(names) == 3
    assert names[-1].startswith("0007")
