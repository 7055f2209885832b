"""Requirements with an address of their own: two addresses of one package, and one where nothing is any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.indexes import serving

if TYPE_CHECKING:
    from tests.kit.governed import Governed


def test_two_addresses_of_one_package_are_a_conflict(governed: Governed) -> None:
    for name, version in (("a", "1.0"), ("b", "2.0")):
        governed.wheel("thing", version)
        wheel = next(governed.wheels.glob(f"thing-{version}-*")).resolve()
        governed.gov("node", "add", str(governed.pack(name, f"thing @ {wheel.as_uri()}\n"))).ok()
    ran = governed.gov("--json", "tx", "run", "a", "b")
    ran.failed(4)
    report = ran.data["conflict"]
    assert (report["form"], report["package"], report["verified"]) == ("two_packs", "thing", True)
    assert [side["who"] for side in report["sides"]] == ["a", "b"]
    found = governed.gov("--json", "resolve", "1", "--suggest").ok().data["suggestions"]
    titles = {entry["title"]: entry["violated"][0][:2] for entry in found if entry["works"]}
    assert titles == {
        "force thing==1.0 for all, the version that a needs": "b:",
        "force thing==2.0 for all, the version that b needs": "a:",
    }
    governed.gov("resolve", "1", "--override", "thing==2.0", "--reason", "r").ok()


def test_an_address_where_nothing_is_any_more_is_told_and_replaced(governed: Governed) -> None:
    governed.wheel("gone", "1.0")
    with serving(governed.root / "nothing", ()) as url:
        governed.gov("node", "add", str(governed.pack("new", f"basis\ngone @ {url}/gone-1.0.tar.gz\n"))).ok()
        ran = governed.gov("--json", "tx", "run", "new")
        ran.failed(4)
        assert ran.data["conflict"]["form"] == "missing_file"
        assert [side["line"] for side in ran.data["conflict"]["sides"]] == [f"gone @ {url}/gone-1.0.tar.gz"]
        assert ran.data["conflict"]["summary"].endswith("and that is not at its address any more")
        governed.gov("resolve", "1", "--override", "gone==1.0", "--reason", "the archive is gone").ok()
