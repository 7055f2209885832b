"""`gov verify`, `gov gc` and `gov audit`: what they find, what they say helps, and what they leave alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfygov.ports.comfy_api import free_port
from tests.kit.repos import commit_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.governed import Governed


def production(governed: Governed) -> Path:
    return Path(os.path.realpath(governed.home / ".venv-prod"))


def site(governed: Governed) -> Path:
    return next(production(governed).glob("lib/python3*/site-packages"))


def node(governed: Governed, name: str) -> Path:
    return governed.home / "ComfyUI" / "custom_nodes" / name


def used_bytes(path: Path) -> int:
    """As the disk counts, by another program."""
    return int(subprocess.check_output(["du", "-s", "--block-size=1", str(path)]).split()[0])


def pip_installs(governed: Governed) -> None:
    info = site(governed) / "intruder-1.0.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("")
    (info / "INSTALLER").write_text("pip\n")


def edit_in_place(governed: Governed) -> None:
    with (site(governed) / "basis" / "__init__.py").open("a") as file:
        file.write("# edited\n")


def edit_truth(governed: Governed) -> None:
    (governed.home / "uv.lock").write_text("mine")


def link_elsewhere(governed: Governed) -> None:
    (governed.home / ".venv-prod").unlink()
    (governed.home / ".venv-prod").symlink_to("/usr")


def lose_pack(governed: Governed) -> None:
    shutil.rmtree(node(governed, "one"))


def other_commit(governed: Governed) -> None:
    (node(governed, "one") / "more.txt").write_text("x")
    commit_all(node(governed, "one"))


def edit_pack(governed: Governed) -> None:
    (node(governed, "one") / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")


def edit_comfyui(governed: Governed) -> None:
    (governed.home / "ComfyUI" / "nodes.py").write_text("# mine\n")


def foreign_pack(governed: Governed) -> None:
    node(governed, "stray").mkdir()


def open_rights(governed: Governed) -> None:
    governed.home.chmod(0o777)


MENDED_BY_SYNC = [pip_installs, edit_in_place, edit_truth, link_elsewhere, lose_pack, other_commit]
MENDED_BY_ITS_HINT = [edit_pack, edit_comfyui, foreign_pack, open_rights]


@pytest.fixture
def home(governed: Governed) -> Governed:
    governed.promote_pack("one")
    governed.gov("verify").ok()
    return governed


@pytest.mark.parametrize("harm", [*MENDED_BY_SYNC, *MENDED_BY_ITS_HINT], ids=lambda harm: harm.__name__)
def test_the_command_that_a_finding_names_mends_it(home: Governed, harm: Callable[[Governed], None]) -> None:
    harm(home)
    ran = home.gov("verify", "--json")
    assert ran.exit_code == 3, ran
    assert ran.envelope["error"]["code"] == "drift"
    findings = ran.data["findings"]
    mends = {re.sub(r" \(.*", "", finding["mend"]) for finding in findings}
    assert mends
    if harm in MENDED_BY_SYNC:
        assert mends == {"gov sync"}, findings
    for mend in mends:
        if mend.startswith("gov "):
            home.gov(*mend.split()[1:]).ok()
        else:
            subprocess.run(mend, shell=True, check=True, cwd=home.root)
    home.gov("verify", "--deep").ok()


def test_an_edit_of_the_same_size_is_seen_by_the_deep_look_and_remembered(home: Governed) -> None:
    path = site(home) / "basis" / "__init__.py"
    text = path.read_text()
    with path.open("r+") as file:
        file.write(text.swapcase())
    home.gov("verify").ok()
    home.gov("verify", "--deep").failed(3, "basis/__init__.py differs from its RECORD", "gov sync")
    assert home.json("status")["drift"]
    home.gov("run", "--detach").failed(3, "gov sync")
    home.gov("sync").ok()
    assert path.read_text() == text
    home.gov("verify", "--deep").ok()
    assert not home.json("status")["drift"]


def test_verify_changes_nothing(home: Governed) -> None:
    edit_pack(home)
    edit_truth(home)
    before = {path: path.stat().st_mtime_ns for path in home.home.rglob("*") if path.name != "environments.json"}
    home.gov("verify", "--deep").failed(3)
    after = {path: path.stat().st_mtime_ns for path in home.home.rglob("*") if path.name != "environments.json"}
    changed = {str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not {path for path in changed if "__pycache__" not in path and not path.endswith(("/state", "/.git"))}


def test_an_environment_that_comfyui_runs_from_is_not_rebuilt_under_it(home: Governed) -> None:
    home.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    try:
        edit_in_place(home)
        home.gov("verify").failed(3, "gov stop, then gov sync")
        home.gov("sync").failed(1, "runs from")
    finally:
        home.gov("stop").ok()
    home.gov("sync").ok()
    home.gov("verify").ok()


def test_gc_keeps_what_can_be_gone_back_to(home: Governed) -> None:
    home.wheel("extra", "1.0")
    home.promote_pack("two", "extra\n")
    home.gov("rollback", "1").ok()
    environments = sorted(path.name for path in (home.home / ".venvs").iterdir())
    assert home.json("gc")["removed"] == []
    assert sorted(path.name for path in (home.home / ".venvs").iterdir()) == environments
    home.gov("rollback", "3").ok()


def test_gc_frees_what_retention_gives_up(home: Governed) -> None:
    home.wheel("extra", "1.0", modules={"extra/__init__.py": "", "extra/data.txt": "x" * 200_000})
    home.promote_pack("two", "extra\n")
    home.gov("rollback", "4").ok()
    home.gov("node", "disable", "one").ok()  # head and the snapshot before it are always kept
    doomed = [path for path in (home.home / ".venvs").iterdir() if path != production(home)]
    (home.home / "config.toml").write_text(
        (home.home / "config.toml").read_text() + "\n[rollback]\nsnapshot_retention = 1\n"
    )
    shutil.rmtree(home.root / "uv-cache")
    dry = home.json("gc", "--dry-run")
    assert all(path.is_dir() for path in doomed)
    assert dry["freed_bytes"] >= 200_000
    before = used_bytes(home.home)
    done = home.json("gc")
    assert [item["path"] for item in done["removed"]] == [item["path"] for item in dry["removed"]]
    assert done["freed_bytes"] == dry["freed_bytes"]
    assert not any(path.exists() for path in doomed)
    folders = len(doomed) * 60 * 4096
    assert done["freed_bytes"] <= before - used_bytes(home.home) <= done["freed_bytes"] + folders
    assert home.json("audit")["entries"][-1]["action"] == "gc"
    # No snapshot knows that pack any more, and its folder is not ours to delete.
    findings = home.gov("verify", "--deep", "--json").data["findings"]
    assert [(finding["kind"], finding["subject"]) for finding in findings] == [("unmanaged", "two")]


def test_a_file_with_several_names_counts_when_the_last_one_goes(home: Governed) -> None:
    shared, alone = home.home / "state" / "work" / "build-1", home.home / "state" / "work" / "build-2"
    for folder in (shared, alone):
        folder.mkdir(parents=True)
    (home.root / "outside").write_bytes(b"x" * 100_000)
    os.link(home.root / "outside", shared / "inside")
    (alone / "first").write_bytes(b"x" * 50_000)
    os.link(alone / "first", shared / "second")
    freed = home.json("gc", "--dry-run")["freed_bytes"]
    assert 50_000 <= freed < 100_000


def test_gc_leaves_a_trial_and_its_base_alone(home: Governed) -> None:
    home.gov("node", "add", str(home.pack("sleeper", files={"__init__.py": "import time; time.sleep(600)"}))).ok()
    child = home.start("tx", "run", "sleeper")
    record = home.home / "state" / "transactions" / "tx0002.json"
    while not record.is_file() or b"candidate" not in record.read_bytes():
        assert child.poll() is None
    work = home.home / "state" / "work" / "tx0002"
    while not work.is_dir():
        assert child.poll() is None
    kept = home.json("gc")["kept_back"]
    assert "tx0002 is on trial" in kept[0]
    assert work.is_dir()
    child.terminate()
    child.communicate(timeout=60)


def test_old_objects_that_no_home_names_leave_the_cache(home: Governed) -> None:
    home.gov("node", "add", str(home.pack("passing"))).ok()
    home.gov("node", "remove", "passing", "--purge-code").ok()
    repositories = [path for path in (home.root / "cache" / "git").iterdir() if path.suffix == ".git"]
    stray = home.root / "cache" / "git" / "0123456789abcdef0123.git"
    shutil.copytree(repositories[0], stray)
    for path in (*repositories, stray):
        os.utime(path, (1, 1))
    removed = {Path(item["path"]) for item in home.json("gc")["removed"] if item["kind"] == "cache"}
    assert removed == {stray}, "a snapshot still names `passing`"


def test_audit_tells_who_did_what(home: Governed) -> None:
    home.gov("rollback", "1", "--reason", "it was slow").ok()
    home.gov("snapshot", "create", "--reason", "a good one").ok()
    ran = home.gov("audit").ok()
    assert "gov rollback 1 --reason 'it was slow'" in ran.stdout
    assert "reason: it was slow" in ran.stdout
    assert "0004-promote_post -> 0006-rollback_post" in ran.stdout
    entries = home.json("audit", "-n", "0")["entries"]
    assert [entry["action"] for entry in entries] == ["init", "node_add", "promote_post", "rollback_post", "manual"]
    home.gov("audit", "--check").ok()


@pytest.mark.parametrize("kind", ["edit", "delete", "reorder", "truncate", "remove", "snapshot"])
def test_audit_check_finds_tampering(home: Governed, kind: str) -> None:
    path = home.home / "state" / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    if kind == "edit":
        lines[1] = lines[1].replace(b'"node_add"', b'"nothing"')
    elif kind == "delete":
        del lines[0]
    elif kind == "reorder":
        lines[0], lines[1] = lines[1], lines[0]
    elif kind == "truncate":
        lines = lines[:-1]
    path.write_bytes(b"".join(lines))
    if kind == "remove":
        path.unlink()
    if kind == "snapshot":
        meta = home.home / "snapshots" / "0001-init" / "uv.lock"
        meta.write_text(meta.read_text() + "# edited\n")
    ran = home.gov("audit", "--check", "--json")
    assert ran.exit_code == 3
    assert ran.envelope["error"]["code"] == "audit_broken"
    home.gov("snapshot", "create").ok()
    home.gov("audit", "--check").failed(3)  # a further line does not hide it


def test_a_home_of_the_first_release_is_taken_on(home: Governed) -> None:
    """Its head remembers no audit line, and its lines hold no state."""
    state = home.home / "state"
    head = json.loads((state / "head.json").read_bytes())
    del head["audit"]
    (state / "head.json").write_text(json.dumps(head))
    (state / "environments.json").unlink(missing_ok=True)
    home.gov("audit", "--check").ok()
    home.gov("verify", "--deep").ok()
    home.gov("snapshot", "create").ok()
    home.gov("audit", "--check").ok()
    assert json.loads((state / "head.json").read_bytes())["audit"]


def test_a_lost_head_is_found_again_and_no_new_history_begins(home: Governed) -> None:
    home.gov("snapshot", "create").ok()
    before = home.world()
    head = home.home / "state" / "head.json"
    head.write_text("{")
    home.gov("status").failed(1, "head.json", "gov init --path")
    head.rename(head.with_name("head.json.damaged"))
    home.gov("init", "--path", str(home.home)).ok()
    assert home.world() == before
    home.gov("audit", "--check").ok()
    home.gov("verify", "--deep").ok()


def test_gc_keeps_what_comfyui_runs_from_and_what_may_be_promoted(home: Governed) -> None:
    home.wheel("extra", "1.0")
    home.promote_pack("two", "extra\n")
    home.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    running = production(home)
    try:
        home.gov("rollback", "4").ok()
        home.gov("node", "disable", "one").ok()
        home.gov("node", "enable", "one").ok()
        with (home.home / "config.toml").open("a") as config:
            config.write("\n[rollback]\nsnapshot_retention = 1\n")
        home.gov("gc").ok()
        assert running.is_dir()
    finally:
        home.gov("stop").ok()
    assert str(running) in {item["path"] for item in home.json("gc")["removed"]}


def test_a_home_whose_disk_is_away_keeps_its_objects(home: Governed) -> None:
    for path in (home.root / "cache" / "git").glob("*.git"):
        os.utime(path, (1, 1))
    other = home.root / "mount"
    home.home.rename(other)
    second = type(home)(home.root / "second", {"COMFYGOV_CACHE": str(home.root / "cache")})
    second.root.mkdir()
    second.init().ok()
    kept = second.json("gc")
    assert not [item for item in kept["removed"] if item["kind"] == "cache" and item["path"].endswith(".git")]
    assert any(str(home.home) in line for line in kept["kept_back"])


def test_gc_takes_nothing_of_a_persons_that_looks_like_a_leftover(home: Governed) -> None:
    mine = [
        home.home / ".todo.31.12.2024.tmp",
        node(home, ".mypack.999999.own") / "f",
        node(home, ".d.staging.disabled"),
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    home.gov("gc").ok()
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_a_number_is_never_given_to_two_snapshots(home: Governed) -> None:
    home.gov("snapshot", "create").ok()
    (home.home / "config.toml").write_text(
        (home.home / "config.toml").read_text() + "\n[rollback]\nsnapshot_retention = 1\n"
    )
    home.gov("gc").ok()
    assert not list((home.home / "snapshots").glob("0005-*"))
    assert home.json("snapshot", "create")["id"] == "0006-manual"
