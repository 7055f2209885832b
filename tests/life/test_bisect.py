"""`gov bisect`: the change that broke something is named, and production is only read."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import checker
from tests.kit.governed import Governed

if TYPE_CHECKING:
    from collections.abc import Iterator

FINDS = "import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
SKIPS = """
import importlib.util, pathlib, sys
if importlib.util.find_spec("culprit"):
    sys.exit(1)
sys.exit(125 if {unsure} else 0)
"""
WORKFLOW = {
    "1": {"class_type": "one", "inputs": {}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


def has(name: str) -> tuple[str, ...]:
    """A check that is bad where the package `name` is installed."""
    return ("--", "python", "-c", FINDS.format(name=name))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Governed:
    """1 init, 2 add, 3 pre, 4 post of `one`; 5 disable, 6 enable; 7 add, 8 pre, 9 post of `breaker`; 10 disable `one`,
    11 manual. Nothing of what follows changes it: that is what most tests of this file hold."""
    made = Governed(tmp_path_factory.mktemp("history"))
    made.wheel("basis", "1.0")
    made.wheel("onelib", "1.0")
    made.wheel("culprit", "3.0", ("basis",))
    made.init(requirements="basis\n").ok()
    made.promote_pack("one", "onelib\n")
    made.gov("node", "disable", "one").ok()
    made.gov("node", "enable", "one").ok()
    made.promote_pack("breaker", "culprit\n")
    made.gov("node", "disable", "one").ok()
    made.gov("snapshot", "create", "--reason", "as it is").ok()
    return made


@pytest.fixture
def home(history: Governed) -> Iterator[Governed]:
    before, files = history.world(), state_files(history)
    yield history
    assert history.world() == before
    assert state_files(history) == files
    assert list((history.home / "state" / "work").iterdir()) == []
    assert checker.processes(history.home) == []


def state_files(governed: Governed) -> dict[str, bytes]:
    """What is recorded of the home: snapshots, head, audit, transactions."""
    places = (governed.home / "snapshots", governed.home / "state")
    found = (path for place in places for path in place.rglob("*") if path.is_file() and "logs" not in path.parts)
    unnamed = ("home.lock", "environments.json", "snapshots_index.json", "transactions_index.json")
    return {str(path): path.read_bytes() for path in found if path.name not in unnamed}


@pytest.fixture
def small(governed: Governed) -> Governed:
    """1 init, 2 add, 3 pre, 4 post of a pack with the package `culprit`."""
    governed.wheel("culprit", "3.0")
    governed.promote_pack("one", "culprit\n")
    return governed


def verdicts(data: Any) -> dict[str, str]:
    return {step["snapshot"]: step["verdict"] for step in data["steps"]}


def test_the_first_bad_state_and_the_change_that_made_it_are_named(home: Governed) -> None:
    data = home.json("bisect", "start", "11", "1", *has("culprit"))
    assert (data["good"], data["bad"], data["mended"]) == ("0001-init", "0011-manual", False)
    assert data["states"] == 6, "neighbours of equal content are one state"
    assert (data["last_good"], data["first_bad"]) == ("0008-promote_pre", "0009-promote_post")
    [change] = data["changes"]
    assert change["snapshot"]["txid"] == "tx0002"
    assert change["snapshot"]["node_id"] == "breaker"
    assert change["command"] == "gov tx promote tx0002"
    assert change["actor"]
    assert change["missing"] == []
    assert data["difference"]["packages"]["added"] == [{"name": "culprit", "version": "3.0"}]
    [node] = data["difference"]["nodes"]
    assert node["id"] == "breaker"
    assert node["before"].endswith("not promoted")
    found = verdicts(data)
    assert list(found)[:2] == ["0011-manual", "0001-init"], "the ends are looked at first"
    assert len(found) == len(data["steps"]) <= 5
    for step in data["steps"]:
        assert step["verdict"] == ("bad" if int(step["snapshot"][:4]) >= 9 else "good")
        assert (home.home / step["log"]).is_file()
        assert step["built"] is False


def test_a_person_reads_it_in_80_columns(home: Governed) -> None:
    ran = home.gov("bisect", "start", "11", "1", *has("culprit")).ok()
    assert ran.stdout.startswith("0009-promote_post is the first bad state: this change broke it\n")
    for words in ("promote_post, tx0002, pack breaker", "gov tx promote tx0002", "+ culprit 3.0", "bad "):
        assert words in ran.stdout, ran
    assert max(map(len, ran.stdout.splitlines())) <= 80, ran
    steps = [line for line in ran.stderr.splitlines() if " left: done in " in line]
    assert len(steps) == len(ran.stderr.splitlines()) >= 4, ran
    assert "0011-manual is bad, 4 states left" in steps[0]
    assert "0 states left" in steps[-1]


def test_an_older_bad_state_finds_what_mended_it(home: Governed) -> None:
    data = home.json("bisect", "start", "1", "4", "--", "test", "-d", "custom_nodes/one")
    assert data["mended"]
    assert (data["first_bad"], data["last_good"]) == ("0003-promote_pre", "0004-promote_post")
    assert data["changes"][0]["snapshot"]["txid"] == "tx0001"
    assert data["difference"]["packages"]["added"] == [{"name": "onelib", "version": "1.0"}]
    ran = home.gov("bisect", "start", "1", "4", "--", "test", "-d", "custom_nodes/one").ok()
    assert "0004-promote_post is the first good state: this change mended it" in ran.stdout


def test_a_workflow_is_a_check(home: Governed) -> None:
    (home.root / "one.json").write_text(json.dumps(WORKFLOW))
    data = home.json("bisect", "start", "11", "6", "--", "one.json")
    assert data["first_bad"] == "0010-node_disable"
    [change] = data["changes"]
    assert (change["snapshot"]["kind"], change["snapshot"]["node_id"]) == ("node_disable", "one")
    bad = next(step for step in data["steps"] if step["snapshot"] == "0011-manual")
    assert "ComfyUI refused the workflow" in bad["reason"]
    assert "one.json" not in bad["reason"]
    assert (home.home / bad["log"]).is_file()


def test_what_cannot_be_judged_leaves_suspects(home: Governed) -> None:
    """`one` lies in custom_nodes of 4 and of 6, which are the same state."""
    check = SKIPS.format(unsure='pathlib.Path("custom_nodes/one").exists()')
    ran = home.gov("bisect", "start", "9", "1", "--json", "--", "python", "-c", check)
    assert ran.exit_code == 1, ran
    assert ran.envelope["error"]["message"].startswith("2 changes are suspects")
    assert [change["snapshot"]["id"] for change in ran.data["changes"]] == ["0006-node_enable", "0009-promote_post"]
    assert [change["snapshot"]["id"] for change in ran.envelope["findings"]] == [
        "0006-node_enable",
        "0009-promote_post",
    ]
    skipped = [name for name, verdict in verdicts(ran.data).items() if verdict == "skip"]
    assert len(skipped) == 1, "an equal state is not judged again"


def test_all_between_can_be_skipped(home: Governed) -> None:
    check = SKIPS.format(unsure='importlib.util.find_spec("onelib")')
    ran = home.gov("bisect", "start", "9", "1", "--", "python", "-c", check)
    assert ran.exit_code == 1, ran
    assert ran.stdout.startswith("one of 4 changes broke it:\n0004-promote_post\n")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (
            ("11", "9", *has("culprit")),
            1,
            ("0009-promote_post is bad, not good", "the check fails there (exit code 1)"),
        ),
        (("8", "1", *has("culprit")), 1, ("0008-promote_pre is good, not bad", "the check passes there")),
        (("11", "1", "--", "sh", "-c", "exit 125"), 1, ("0011-manual cannot be judged", "exit code 125")),
        (("11", "99", *has("culprit")), 2, ("there is no snapshot `99`", "gov snapshot list")),
        (("what", "1", *has("culprit")), 2, ("there is no snapshot `what`",)),
        (("1", "1", *has("culprit")), 1, ("are one snapshot",)),
        (("6", "4", *has("culprit")), 1, ("are the same state",)),
        (("11", "1", "--", "no-such-program"), 2, ("there is no program `no-such-program`",)),
        (("11", "1", "--", "./check.sh"), 2, ("there is no program", "check.sh")),
        (("11", "1", "--", "nowhere.json"), 2, ("there is no workflow nowhere.json",)),
        (("11", "1"), 2, ("Missing argument", "CHECK")),
        (("11", "1", "--timeout", "0", "--", "true"), 2, ("0",)),
    ],
)
def test_what_cannot_be_a_search_is_refused(
    home: Governed, arguments: tuple[str, ...], exit_code: int, words: tuple[str, ...]
) -> None:
    home.gov("bisect", "start", *arguments).failed(exit_code, *words)


def test_a_file_that_is_no_workflow_is_refused(home: Governed) -> None:
    (home.root / "bad.json").write_text("[1]")
    home.gov("bisect", "start", "11", "1", "--", "bad.json").failed(2, "is no workflow in ComfyUI's API format")


def test_a_check_is_found_from_where_the_person_is(home: Governed) -> None:
    script = home.root / "check.sh"
    script.write_text(f"#!/bin/sh\nexec python -c '{FINDS.format(name='culprit').replace(chr(39), chr(34))}'\n")
    script.chmod(0o755)
    assert home.json("bisect", "start", "11", "1", "--", "./check.sh")["first_bad"] == "0009-promote_post"
    (home.root / "check.py").write_text("")
    ran = home.gov("bisect", "start", "11", "1", "--", "python", "check.py")
    ran.failed(1, "0001-init is bad, not good", "can't open file", f"give the whole path, {home.root}/check.py")


def test_a_check_that_does_not_end_is_bad(home: Governed) -> None:
    ran = home.gov("bisect", "start", "11", "1", "--timeout", "0.5", "--", "sleep", "60")
    ran.failed(1, "0001-init is bad, not good", "did not end in 0.5 s")


def test_a_check_cannot_write_outside_its_own_place(home: Governed) -> None:
    write = f"import pathlib; pathlib.Path({str(home.home / 'ComfyUI' / 'stolen')!r}).write_text('x')"
    home.gov("bisect", "start", "11", "1", "--", "python", "-c", write).failed(1, "0001-init is bad", "Errno")
    own = "import basis, pathlib; pathlib.Path(basis.__file__).write_text('x')"
    home.gov("bisect", "start", "11", "1", "--", "python", "-c", own).failed(1, "0001-init is bad", "Errno")


def test_without_a_sandbox_the_environment_is_a_copy(small: Governed) -> None:
    with (small.home / "config.toml").open("a") as file:
        file.write('\n[tx]\nsandbox = "none"\n')
    spoil = "import basis, pathlib; pathlib.Path(basis.__file__).write_text('x'); import culprit"
    ran = small.gov("bisect", "start", "1", "4", "--json", "--", "python", "-c", spoil).ok()
    assert ran.data["last_good"] == "0004-promote_post"
    small.gov("verify", "--deep").ok()
    assert list((small.home / "state" / "work").iterdir()) == []


def test_a_state_that_does_not_boot_is_bad_for_a_workflow(small: Governed) -> None:
    with (small.home / "config.toml").open("a") as file:
        file.write('\n[tx]\nextra_args = ["--no-such-option"]\n')
    (small.root / "one.json").write_text(json.dumps(WORKFLOW))
    ran = small.gov("bisect", "start", "1", "4", "--", "one.json")
    ran.failed(1, "0004-promote_post is bad, not good", "ComfyUI ended while it started", "the whole log is")


def test_an_environment_that_is_gone_is_built_beside(small: Governed) -> None:
    gone = small.home / ".venvs" / generation(small, "0001-init")
    shutil.rmtree(gone)
    before = small.world()
    data = small.json("bisect", "start", "4", "1", *has("culprit"))
    assert data["first_bad"] == "0004-promote_post"
    assert {step["snapshot"]: step["built"] for step in data["steps"]} == {
        "0004-promote_post": False,
        "0001-init": True,
    }
    assert gone.is_dir()
    assert small.world() == before
    small.gov("verify", "--deep").ok()


def test_a_state_that_cannot_be_built_is_skipped_and_productions_own_is_not_touched(small: Governed) -> None:
    small.wheel("later", "1.0")
    small.promote_pack("two", "later\n")
    shutil.rmtree(small.home / ".venvs" / generation(small, "0004-promote_post"))
    (small.wheels / "culprit-3.0-py3-none-any.whl").rename(small.root / "away.whl")
    data = small.gov("bisect", "start", "7", "1", "--json", *has("later"))
    assert data.exit_code == 1, data
    assert verdicts(data.data)["0004-promote_post"] == "skip"
    small.gov("bisect", "start", "4", "1", *has("culprit")).failed(1, "0004-promote_post cannot be judged", "be built")
    shutil.rmtree(small.home / ".venvs" / generation(small, "0007-promote_post"))
    small.gov("bisect", "start", "7", "1", *has("later")).failed(3, "production's own environment", "gov sync")


def generation(governed: Governed, snapshot: str) -> str:
    meta = json.loads((governed.home / "snapshots" / snapshot / "meta.json").read_bytes())
    return str(meta["generation"])


def test_snapshots_that_are_not_kept_are_named_as_suspects(small: Governed) -> None:
    shutil.rmtree(small.home / "snapshots" / "0002-node_add")
    shutil.rmtree(small.home / "snapshots" / "0003-promote_pre")
    data = small.json("bisect", "start", "4", "1", *has("culprit"))
    assert data["changes"][0]["missing"] == [2, 3]
    ran = small.gov("bisect", "start", "4", "1", *has("culprit")).ok()
    assert "not kept any more: 0002 to 0003" in " ".join(ran.stdout.split())


def test_a_killed_search_leaves_nothing_after_the_next_change(small: Governed) -> None:
    """`gov gc` takes nothing from one that lives. In a sandbox with its own processes none would be left to end."""
    with (small.home / "config.toml").open("a") as file:
        file.write('\n[tx]\nsandbox = "none"\n')
    child = small.start("bisect", "start", "4", "1", "--", "sh", "-c", "touch here; (setsid sleep 301 &); sleep 300")
    try:
        work = small.home / "state" / "work"
        wait_for(lambda: list(work.glob("bisect-*-boot/ComfyUI/here")))
        before = small.world()
        kept = small.json("gc")
        assert any("gov bisect" in line for line in kept["kept_back"]), kept
        assert list(work.glob("bisect-*-boot/ComfyUI/here"))
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=30)
    wait_for(lambda: checker.processes(small.home))
    assert small.world() == before
    ran = small.gov("gc").ok()
    assert "gov bisect` that was killed" in ran.stderr
    assert checker.processes(small.home) == []
    assert list(work.iterdir()) == []
    assert checker.problems(small.home, {}) == []


def test_a_kill_while_an_environment_is_built_leaves_what_gc_takes(small: Governed) -> None:
    shutil.rmtree(small.home / ".venvs" / generation(small, "0001-init"))
    before = small.world()
    small.env["COMFYGOV_FAULT"] = "kill@generation.synced"
    assert small.gov("bisect", "start", "4", "1", *has("culprit")).exit_code == -9
    del small.env["COMFYGOV_FAULT"]
    small.gov("gc").ok()
    assert small.world() == before
    assert checker.problems(small.home, {}) == []


def test_an_interrupted_search_leaves_nothing(small: Governed) -> None:
    child = small.start("bisect", "start", "4", "1", "--", "sh", "-c", "touch here; sleep 300")
    work = small.home / "state" / "work"
    wait_for(lambda: list(work.glob("bisect-*-boot/ComfyUI/here")))
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert list(work.iterdir()) == []
    assert checker.processes(small.home) == []


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_log_is_whole(home: Governed) -> None:
    loud = "print('said\\n' * 1000); import culprit"
    data = home.json("bisect", "start", "1", "11", "--", "python", "-c", loud)
    for step in data["steps"]:
        log = home.home / step["log"]
        assert log.read_text().count("said\n") == 1000
        assert log.parent == home.home / data["logs"]
    assert Path(data["logs"]).parts[:2] == ("state", "logs")
