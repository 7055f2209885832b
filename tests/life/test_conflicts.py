"""A conflict is explained down to the lines, resolved in one command, and never touches production."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.repos import commit_all, git

if TYPE_CHECKING:
    from tests.kit.governed import Governed, Ran


@pytest.fixture
def two(governed: Governed) -> Governed:
    """`old` is in production with thing<2; `new`, added, wants thing>=2."""
    for version in ("1.0", "1.5", "2.0", "3.0"):
        governed.wheel("thing", version)
    governed.wheel("user-of-thing", "1.0", ("thing",))
    governed.promote_pack("old", "thing<2\nuser-of-thing\n")
    governed.gov("node", "add", str(governed.pack("new", "# what it needs\nthing>=2\n"))).ok()
    return governed


def report_of(governed: Governed, ran: Ran) -> Any:
    txid = ran.data["transaction"]["txid"]
    return json.loads((governed.home / "state" / "conflicts" / f"{txid}.json").read_bytes())


def conflict(governed: Governed, *arguments: str) -> Any:
    """The report of a `gov tx run` that finds no solution and touches nothing."""
    before = governed.world()
    ran = governed.gov("--json", "tx", "run", *arguments)
    assert ran.exit_code == 4, ran
    assert ran.envelope["error"]["code"] == "no_solution"
    assert governed.world() == before
    return report_of(governed, ran)


def sides(report: Any) -> set[tuple[str, str]]:
    return {(side["who"], side["line"]) for side in report["sides"]}


# -- explained -------------------------------------------------------------------------------------


def test_two_packs(two: Governed) -> None:
    report = conflict(two, "new")
    assert report["form"] == "two_packs"
    assert report["verified"]
    assert sides(report) == {("old", "thing<2"), ("new", "thing>=2")}
    assert (report["package"], report["production_version"]) == ("thing", "1.5")
    by = {side["who"]: side for side in report["sides"]}
    assert (by["old"]["admits_production"], by["new"]["admits_production"]) == (True, False)
    assert (by["new"]["where"], by["new"]["on_trial"]) == ("requirements.txt line 2", True)
    assert report["dependents"] == ["user-of-thing 1.0"]
    shown = two.gov("tx", "inspect", "2").stdout
    for words in ("new and old want different versions of thing", "production has thing 1.5, which old can live"):
        assert words in shown
    assert "checked: these 2 lines have no solution; without any one of them there is one" in shown
    assert "gov resolve tx0002 --suggest" in shown


def test_a_conflict_between_what_the_lines_pull_in(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    governed.wheel("thing", "2.0")
    governed.wheel("left", "1.0", ("thing<2",))
    governed.wheel("right", "1.0", ("thing>=2",))
    governed.promote_pack("a", "left\n")
    governed.gov("node", "add", str(governed.pack("b", "right\nbasis\n"))).ok()
    report = conflict(governed, "b")
    assert sides(report) == {("a", "left"), ("b", "right")}
    assert report["package"] == "thing"
    assert any("left" in line and "thing<2" in line for line in report["reasons"])
    assert "thing<2" in governed.gov("tx", "inspect", "2").stdout


def test_three_lines_that_only_together_have_no_solution(governed: Governed) -> None:
    for version in ("1.0", "2.0"):
        governed.wheel("x", version)
        governed.wheel("y", version, (f"x=={version}",))
    governed.promote_pack("a", "y\nbasis\n")
    governed.promote_pack("b", "x>=2\n")
    governed.gov("node", "add", str(governed.pack("c", "basis\ny<2\n"))).ok()
    assert sides(conflict(governed, "c")) == {("b", "x>=2"), ("c", "y<2")}


def test_against_comfyui(governed: Governed) -> None:
    governed.wheel("basis", "2.0")
    governed.gov("node", "add", str(governed.pack("new", "basis>=3\n"))).ok()
    assert conflict(governed, "new")["form"] == "missing_version"
    pack = governed.pack("other", "needs-old\n")
    governed.wheel("needs-old", "1.0", ("basis<2",))
    source = governed.comfyui_source / "requirements.txt"
    source.write_text("basis>=2\n")
    commit_all(governed.comfyui_source)
    governed.gov("tx", "promote", str(governed.json("tx", "run", "--comfyui", "main")["transaction"]["txid"])).ok()
    governed.gov("node", "add", str(pack)).ok()
    report = conflict(governed, "other")
    assert report["form"] == "comfyui"
    assert sides(report) == {("ComfyUI", "basis>=2"), ("other", "needs-old")}


def test_against_what_the_settings_hold(governed: Governed) -> None:
    for version in ("1.0", "2.0"):
        governed.wheel("numpy", version)
        governed.wheel("free", version)
    config = governed.home / "config.toml"
    text = config.read_text()
    config.write_text(text.replace("[python]\n", '[python]\nconstraints = ["numpy<2", "free<2"]\n'))
    governed.gov("node", "add", str(governed.pack("new", "numpy>=2\n"))).ok()
    report = conflict(governed, "new")
    assert report["form"] == "core_packages"
    assert sides(report) == {("your settings", "numpy<2"), ("new", "numpy>=2")}
    governed.gov("node", "add", str(governed.pack("next", "free>=2\n"))).ok()
    assert conflict(governed, "next")["form"] == "own_wishes"


@pytest.mark.parametrize(
    ("line", "form", "words"),
    [
        ("no-such-thing", "missing_package", "is no package that the index has"),
        ("basis==7", "missing_version", "is no version that the index has"),
        ("future", "requires_python", "needs another Python than this home has"),
        ("left", "missing_package", "asks for `left`, which needs nowhere, and that is no package"),
        ("elsewhere", "no_wheel", "has no wheel for this platform"),
    ],
)
def test_one_line_alone(governed: Governed, line: str, form: str, words: str) -> None:
    governed.wheel("future", "1.0", requires_python=">=3.99")
    governed.wheel("left", "1.0", ("nowhere",))
    (governed.wheels / "elsewhere-1.0-cp311-cp311-win_amd64.whl").write_bytes(
        next(governed.wheels.glob("basis-1.0-*")).read_bytes()
    )
    governed.gov("node", "add", str(governed.pack("new", f"basis\n{line}\n"))).ok()
    report = conflict(governed, "new")
    assert report["form"] == form, report
    assert sides(report) == {("new", line)}
    assert words in report["summary"]


def test_a_line_that_cannot_be_read(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("fine", "basis\n"))).ok()
    governed.gov("node", "add", str(governed.pack("new", "basis\nbasis=>0.1\nbasis > = 1\n"))).ok()
    report = conflict(governed, "fine", "new")
    assert report["form"] == "malformed"
    summary = "new, requirements.txt line 2: `basis=>0.1` is not a requirement (likely meant: `basis>=0.1`)"
    assert report["summary"] == summary
    assert "nor can be read: requirements.txt line 3" in governed.gov("tx", "inspect", "1").stdout
    found = suggestions(governed, "1")["keep_production"]
    assert found["command"] == "gov resolve tx0001 --pin basis==1.0"
    governed.gov(*_words(found["command"])[1:]).ok()


def test_a_pack_that_contradicts_itself(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    governed.wheel("thing", "2.0")
    governed.gov("node", "add", str(governed.pack("new", "thing<2\nthing>=2\n"))).ok()
    report = conflict(governed, "new")
    assert (report["form"], len(report["sides"])) == ("one_pack", 2)
    assert report["summary"] == "new asks for what excludes itself: `thing<2`, `thing>=2`"


# -- resolved --------------------------------------------------------------------------------------


def test_a_forced_version_is_recorded_tried_and_promoted(two: Governed) -> None:
    two.gov("tx", "run", "new")
    two.gov("resolve", "2", "--override", "thing==2.0").failed(2, "needs a reason")
    two.gov("resolve", "2", "--pin", "thing==2.0", "--reason", "r").failed(2, "a reason is kept with a forced version")
    spare = ("--override", "spare==1.0", "--override", "thing==2.0", "--reason", "r")
    before = two.json("tx", "inspect", "2")
    two.gov("resolve", "2", *spare).failed(2, "nothing here needs spare", "--pin spare==1.0")
    assert two.json("tx", "inspect", "2") == before
    ran = two.gov("--json", "resolve", "2", "--override", "thing==2.0", "--reason", "old works with 2").ok()
    tx = ran.data["transaction"]
    assert tx["status"] == "resolved"
    assert tx["overrides"] == [{"requirement": "thing==2.0", "reason": "old works with 2"}]
    assert any(gate["name"] == "overrides" and gate["verdict"] == "warn" for gate in tx["gates"])
    two.gov("tx", "promote", "2").ok()
    assert "thing-2.0" in two.installed()
    line = json.loads((two.home / "state" / "audit.jsonl").read_text().splitlines()[-1])
    assert line["approved"] == ["thing==2.0 is forced: old works with 2"]
    assert 'override-dependencies = [\n    "thing==2.0",' in (two.home / "pyproject.toml").read_text()
    # It stays in force for what comes next.
    two.promote_pack("third", "basis\n")
    assert "thing-2.0" in two.installed()
    # With the pack that it was for it goes, where nothing else moves then.
    two.gov("node", "remove", "old").ok()
    two.gov("node", "remove", "new").ok()
    assert "thing==2.0" not in (two.home / "pyproject.toml").read_text()


def test_pins_that_do_not_help_leave_it_open_with_a_new_report(two: Governed) -> None:
    two.gov("tx", "run", "new")
    before = two.world()
    ran = two.gov("--json", "resolve", "2", "--pin", "thing==1.5")
    assert ran.exit_code == 4, ran
    assert ran.data["transaction"]["status"] == "needs_resolution"
    assert ran.data["transaction"]["resolution_pins"] == ["thing==1.5"]
    assert ("new", "thing>=2") in sides(ran.data["conflict"])
    again = two.gov("--json", "resolve", "2", "--override", "thing==3.0", "--reason", "r").ok().data["transaction"]
    assert again["resolution_pins"] == []
    assert two.world() == before


def test_a_pin_takes_the_place_of_a_line_that_cannot_be_read(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    governed.wheel("thing", "2.0")
    governed.gov("node", "add", str(governed.pack("new", "thing=>0.1\n"))).ok()
    governed.gov("tx", "run", "new").failed(4, "likely meant")
    assert "--pin PACKAGE==VERSION" in governed.gov("tx", "inspect", "tx0001").stdout
    governed.gov("resolve", "1", "--pin", "thing==1.0").ok()
    governed.gov("tx", "promote", "1").ok()
    assert "thing-1.0" in governed.installed()


def test_a_pin_that_is_at_fault_is_named_and_taken_back(two: Governed) -> None:
    two.gov("tx", "run", "new")
    ran = two.gov("--json", "resolve", "2", "--pin", "thing==3.0")
    assert ("old", "thing<2") in sides(ran.data["conflict"])
    assert len(sides(ran.data["conflict"])) == 2
    assert suggestions(two, "2")["keep_production"]["violated"] == ["new: thing>=2"]
    two.gov("resolve", "2", "--unpin", "nope").failed(2, "pins no package `nope`")
    forced = ("--override", "thing==2.0", "--reason", "r")
    ran = two.gov("--json", "resolve", "2", *forced, "--pin", "nothere==3.0")
    assert sides(ran.data["conflict"]) == {("a pin of `gov resolve`", "nothere==3.0")}
    two.gov("resolve", "2", "--unpin", "nothere").ok()


def test_a_resolve_that_is_stopped_leaves_the_conflict_as_it_was(two: Governed) -> None:
    slow = two.pack("slow", "thing>=2\n", files={"install.py": "import time\ntime.sleep(60)\n"})
    two.gov("node", "add", str(slow)).ok()
    two.gov("tx", "run", "slow").failed(4)
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        child = two.start("resolve", "2", "--override", "thing==2.0", "--reason", "r")
        assert child.stderr
        while "private code tree" not in child.stderr.readline():
            assert child.poll() is None
        child.send_signal(number)
        child.communicate(timeout=60)
        assert child.returncode == status
        two.gov("resolve", "2", "--suggest").ok()
        tx = two.json("tx", "inspect", "2")["transaction"]
        assert tx["status"] == "needs_resolution"


def test_a_forced_version_that_nobody_has_is_what_is_blamed(two: Governed) -> None:
    two.gov("tx", "run", "new")
    ran = two.gov("--json", "resolve", "2", "--override", "thing==9", "--reason", "r")
    assert sides(ran.data["conflict"]) == {("a forced version of `gov resolve`", "thing==9")}
    assert ran.data["conflict"]["form"] == "missing_version"
    # What is suggested takes its place, as the command would.
    assert suggestions(two, "2")["keep_production"]["works"]


def test_two_words_about_one_package_are_refused(two: Governed) -> None:
    two.gov("tx", "run", "new")
    two.gov("resolve", "2", "--pin", "thing==1.0", "--pin", "thing==2.0").failed(2, "thing is named twice")
    both = ("--pin", "Thing == 1.0", "--override", "thing==2.0", "--reason", "r")
    two.gov("resolve", "2", *both).failed(2, "`Thing==1.0` and `thing==2.0`")


def test_pins_are_asked_for_line_by_line(two: Governed) -> None:
    two.gov("tx", "run", "new")
    two.gov("resolve", "2").failed(2, "nothing is pinned", "gov resolve tx0002 --suggest")  # nothing came
    child = two.start("resolve", "2", stdin=subprocess.PIPE)
    said = child.communicate("thing==1.5\n\nno==1\n", timeout=60)
    assert child.returncode == 4, said
    assert two.json("tx", "inspect", "2")["transaction"]["resolution_pins"] == ["thing==1.5"]
    two.gov("resolve", "2", "--pin", "thing>=2").failed(2, "is no pin", "package==version")
    two.gov("resolve", "2", "--pin", "thing==2.*").failed(2, "is no pin")
    two.gov("--json", "resolve", "2").failed(2)


def test_only_what_is_open_can_be_resolved(two: Governed) -> None:
    two.gov("resolve", "1", "--pin", "thing==1.0").failed(1, "tx0001 is promoted", "gov status")
    two.gov("resolve", "99", "--pin", "thing==1.0").failed(2, "there is no transaction")


# -- suggested -------------------------------------------------------------------------------------


def suggestions(governed: Governed, txid: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in governed.gov("--json", "resolve", txid, "--suggest").ok().data["suggestions"]:
        found.setdefault(entry["strategy"], entry)  # of each strategy the best
    return found


def test_what_works_is_shown_with_its_cost_the_cheapest_first(two: Governed) -> None:
    pack = two.root / "packs" / "new"
    git(pack, "tag", "v2")
    two.gov("tx", "run", "new")
    before = two.world()
    found = suggestions(two, "2")
    assert found["keep_production"]["works"]
    assert found["keep_production"]["difference"]["changed"] == []
    assert found["keep_production"]["violated"] == ["new: thing>=2"]
    newest = found["newest_that_fits"]
    assert newest["violated"] == ["old: thing<2"]
    assert newest["difference"]["changed"] == [{"name": "thing", "before": "1.5", "after": "3.0"}]
    assert next(iter(found)) == "keep_production"
    assert two.world() == before
    shown = two.gov("resolve", "2", "--suggest").ok().stdout
    assert "gov resolve tx0002 --override thing==1.5" in shown
    command = found["keep_production"]["command"]
    assert two.gov(*_words(command)[1:]).exit_code == 0


def test_who_a_forced_version_goes_against_is_told_before(governed: Governed) -> None:
    """Not the sides alone: what production has, and what comes with the change, may need another version too."""
    for version in ("1.0", "2.0"):
        governed.wheel("thing", version)
    governed.wheel("installed", "1.0", ("thing<2", "thing<1; extra == 'more'", "thing<1; python_version < '3'"))
    governed.wheel("left", "1.0", ("middle",))
    governed.wheel("middle", "1.0", ("thing<2",))
    governed.wheel("also", "1.0", ("thing<2",))
    governed.promote_pack("old", "installed\nalso\nthing<1; sys_platform == 'win32'\n")
    governed.gov("node", "add", str(governed.pack("a", "left\n"))).ok()
    governed.gov("node", "add", str(governed.pack("b", "thing>=2\n"))).ok()
    governed.gov("tx", "run", "a", "b").failed(4)
    found = governed.gov("--json", "resolve", "2", "--suggest").ok().data["suggestions"]
    forced = {_words(entry["command"])[4]: entry for entry in found}
    assert forced["thing==1.0"]["violated"] == ["b: thing>=2"]
    against = forced["thing==2.0"]["violated"]
    # One of them is a side of it, the others are told by what they say of themselves.
    for name in ("installed", "also", "middle"):
        assert len([line for line in against if name in line or (name == "middle" and "left" in line)]) == 1, against
    assert forced["thing==2.0"]["title"] == "force thing==2.0 for all, the version that b needs"


def test_what_only_several_sides_together_exclude_is_told_too(governed: Governed) -> None:
    """`lib<2` alone could live with the forced version: in lib 0.5, which `lib>=1` excludes."""
    governed.wheel("thing", "1.0")
    governed.wheel("thing", "2.0")
    governed.wheel("lib", "0.5")
    governed.wheel("lib", "1.0", ("thing<2",))
    governed.wheel("lib", "2.0")
    for name, line in (("a", "lib<2\n"), ("b", "lib>=1\n"), ("c", "thing>=2\n")):
        governed.gov("node", "add", str(governed.pack(name, line))).ok()
    governed.gov("tx", "run", "a", "b", "c").failed(4, "a, b and c want different versions of thing")
    found = governed.gov("--json", "resolve", "1", "--suggest").ok().data["suggestions"]
    forced = {_words(entry["command"])[4]: entry["violated"] for entry in found}
    assert forced["thing==2.0"] == ["lib 1.0, which needs another thing"]


def test_what_a_side_pulls_in_can_be_forced(governed: Governed) -> None:
    """Both packs are on trial, and neither version is in production."""
    for version in ("3.0", "4.0", "5.0"):
        governed.wheel("proto", version)
    governed.wheel("media", "1.0", ("proto<4",))
    governed.gov("node", "add", str(governed.pack("a", "media\n"))).ok()
    governed.gov("node", "add", str(governed.pack("b", "proto>=4\n"))).ok()
    governed.gov("tx", "run", "a", "b").failed(4)
    found = governed.gov("--json", "resolve", "1", "--suggest").ok().data["suggestions"]
    titles = {entry["title"]: entry["violated"] for entry in found if entry["works"]}
    assert titles == {
        "force proto==3.0 for all, the version that a needs": ["b: proto>=4"],
        "force proto==5.0 for all, the version that b needs": ["a: media, which needs another proto"],
    }


def test_a_suggested_command_does_what_was_tried(two: Governed) -> None:
    """An older release would do with the pin of this transaction; a new one does not have it."""
    two.wheel("broken", "1.0")
    pack = two.pack("young", "thing<2\nbroken=>1\n")
    (pack / "requirements.txt").write_text("thing>=2\nbroken=>1\n")
    commit_all(pack)
    two.gov("node", "add", str(pack)).ok()
    two.gov("tx", "run", "young").failed(4, "likely meant")
    two.gov("resolve", "2", "--pin", "broken==1.0").failed(4, "thing")
    older = suggestions(two, "2")["older_release"]
    assert (older["works"], older["cost"]) == (False, ["a line still cannot be read"])
    two.gov(*_words(older["command"])[1:]).failed(4, "likely meant")


def test_an_older_release_and_an_update_of_the_other_pack(two: Governed) -> None:
    pack = two.root / "packs" / "young"
    two.pack("young", "thing<2\n")
    git(pack, "tag", "v1")
    (pack / "requirements.txt").write_text("thing>=2\n")
    commit_all(pack)
    (pack / "readme.md").write_text("x")
    commit_all(pack)
    old = two.root / "packs" / "old"
    (old / "requirements.txt").write_text("thing\nuser-of-thing\n")
    commit_all(old)
    two.gov("node", "add", str(pack)).ok()
    two.gov("tx", "run", "young").failed(4)
    found = suggestions(two, "2")
    assert [found[name]["works"] for name in ("update_other", "older_release")] == [True, True]
    assert "take young at v1, 2 commits earlier" in found["older_release"]["title"]
    assert found["update_other"]["command"] == "gov tx run young old"
    txid = str(two.json(*_words(found["update_other"]["command"])[1:])["transaction"]["txid"])
    two.gov("tx", "promote", txid).ok()
    assert "thing-3.0" in two.installed()


def test_what_a_line_pulls_in_counts_as_violated_and_settings_can_be_loosened(governed: Governed) -> None:
    for version in ("1.0", "2.0"):
        governed.wheel("thing", version)
    governed.wheel("left", "1.0", ("thing<2",))
    config = governed.home / "config.toml"
    config.write_text(config.read_text().replace("[python]\n", '[python]\nconstraints = ["thing>=2"]\n'))
    governed.gov("node", "add", str(governed.pack("pack", "left\n"))).ok()
    governed.gov("tx", "run", "pack").failed(4)
    found = suggestions(governed, "1")
    assert found["loosen_settings"]["works"]
    assert "take `thing>=2` out of [python] constraints" in found["loosen_settings"]["title"]
    assert found["loosen_settings"]["command"] == "gov tx run pack"
    assert found["newest_that_fits"]["violated"] == ["pack: left, which needs another thing"]


def test_what_the_person_asked_for_before_can_go(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    governed.wheel("thing", "2.0")
    txid = governed.json("tx", "run", "--dep", "thing<2")["transaction"]["txid"]
    governed.gov("tx", "promote", txid).ok()
    governed.gov("node", "add", str(governed.pack("new", "thing>=2\n"))).ok()
    governed.gov("tx", "run", "new").failed(4)
    found = suggestions(governed, "2")
    assert next(iter(found)) == "loosen_settings"
    best = found["loosen_settings"]
    assert best["command"] == "gov tx run new --drop thing"
    assert best["difference"]["changed"] == [{"name": "thing", "before": "1.0", "after": "2.0"}]
    again = governed.json(*_words(best["command"])[1:])["transaction"]
    assert again["diff"] == best["difference"]


def test_nothing_works_is_an_answer_too(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("new", "no-such-thing\n"))).ok()
    governed.gov("tx", "run", "new").failed(4)
    governed.gov("resolve", "1", "--suggest").failed(4, "none of what was tried", "gov tx abort tx0001")


def _words(command: str) -> list[str]:
    return shlex.split(command)
