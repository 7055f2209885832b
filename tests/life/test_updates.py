"""Updates of packs, ComfyUI and packages are transactions; what nobody asked to move stays where it is."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.model.names import group_of
from comfygov.model.state import Plugin
from comfygov.ops import committing, locking
from comfygov.ops.context import changing, open_home
from comfygov.ports.progress import Silent
from comfygov.ports.source import parse_source
from comfygov.truth.snapshots import Origin
from tests.kit.repos import commit_all, git

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from comfygov.ops.context import Context
    from tests.kit.governed import Governed


def tried(governed: Governed, *arguments: str) -> Any:
    return governed.json("tx", "run", *arguments)["transaction"]


def promoted(governed: Governed, *arguments: str) -> Any:
    tx = tried(governed, *arguments)
    governed.gov("tx", "promote", tx["txid"]).ok()
    return tx


def change(repository: Path, name: str, text: str) -> str:
    (repository / name).write_text(text)
    return commit_all(repository)


def gate(tx: Any, name: str) -> Any:
    return next(gate for gate in tx["gates"] if gate["name"] == name)


# -- packs -----------------------------------------------------------------------------------------


def test_a_promoted_pack_goes_to_the_newest_of_what_it_follows(governed: Governed) -> None:
    pack = governed.pack("pack")
    governed.gov("node", "add", str(pack)).ok()
    first = git(pack, "rev-parse", "HEAD")
    change(pack, "new.txt", "1")
    assert promoted(governed, "pack")["source_commit"] == first  # what was added, and shown, is what is tried
    newest = git(pack, "rev-parse", "HEAD")
    tx = promoted(governed, "pack")
    assert (tx["kind"], tx["source_commit"]) == ("node_update", newest)
    assert tx["nodes"] == [
        {"id": "pack", "before": first, "after": newest, "ref": None, "declared": [], "enables": False}
    ]
    assert promoted(governed, "pack", "--ref", first)["source_commit"] == first  # and down again
    assert promoted(governed, "pack")["source_commit"] == first  # it is pinned now


def test_several_packs_and_packages_in_one_change(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    for name in ("one", "two"):
        governed.promote_pack(name)
        change(governed.root / "packs" / name, "new.txt", "1")
    tx = promoted(governed, "one@main", "two", "--dep", "thing")
    assert [move["id"] for move in tx["nodes"]] == ["one", "two"]
    assert "thing-1.0" in governed.installed()
    for name in ("one", "two"):
        assert (governed.home / "ComfyUI" / "custom_nodes" / name / "new.txt").exists()
    governed.gov("rollback", "5").ok()
    assert "thing-1.0" not in governed.installed()


def test_one_bad_pack_of_several_stops_all(governed: Governed) -> None:
    for name in ("good", "bad"):
        governed.promote_pack(name)
        change(governed.root / "packs" / name, "new.txt", "1")
    change(governed.root / "packs" / "bad", "__init__.py", "import not_there\n")
    before = governed.world()
    ran = governed.gov("--json", "tx", "run", "good", "bad")
    assert ran.exit_code == 1
    reasons = [gate["reason"] for gate in ran.data["transaction"]["gates"] if gate["verdict"] == "fail"]
    assert reasons == ["bad: it does not import: No module named 'not_there'"]
    assert governed.world() == before


def test_what_cannot_be_tried_is_said(governed: Governed) -> None:
    governed.promote_pack("pack")
    governed.gov("tx", "run").failed(2, "there is nothing to try")
    governed.gov("tx", "run", "pack", "pack").failed(2, "named twice")
    governed.gov("tx", "run", "pakc").failed(2, "did you mean `pack`?")
    governed.gov("tx", "run", "pack", "pack2", "--ref", "main").failed(2, "--ref is for one pack", "NODE_ID@REF")
    governed.gov("tx", "run", "--dep", "a=1").failed(2, "`a=1` is not a requirement", "did you mean 'a==1'?")
    governed.gov("tx", "run", "--upgrade", "nope").failed(2, "production has no package `nope`")
    governed.gov("tx", "run", "--drop", "nope").failed(2, "you asked for no package `nope`")
    governed.gov("tx", "run", "--upgrade", "basis>=9").failed(2, "takes the name of a package")
    governed.gov("tx", "run", "--comfyui", "no-such-branch").failed(2, "no branch, tag or commit `no-such-branch`")


# -- packages --------------------------------------------------------------------------------------


def test_packages_are_asked_for_upgraded_and_dropped(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    tx = promoted(governed, "--dep", "thing<3")
    assert (tx["kind"], tx["node_id"]) == ("dependency_change", "packages")
    governed.wheel("thing", "2.0")
    promoted(governed, "--dep", "basis")
    assert "thing-1.0" in governed.installed()  # a newer one alone is no reason to move
    assert promoted(governed, "--upgrade", "thing")["diff"]["changed"] == [
        {"name": "thing", "before": "1.0", "after": "2.0"}
    ]
    promoted(governed, "--dep", "thing==1.0")
    assert "thing-1.0" in governed.installed()
    assert "thing<3" not in (governed.home / "pyproject.toml").read_text()
    promoted(governed, "--drop", "thing")
    assert "thing-1.0" not in governed.installed()


def test_what_the_person_dropped_takes_a_forced_version_with_it(governed: Governed) -> None:
    governed.wheel("thing", "1.0")
    governed.wheel("thing", "2.0")
    governed.promote_pack("old", "thing<2\n")
    governed.gov("node", "add", str(governed.pack("new", "thing>=2\n"))).ok()
    governed.gov("tx", "run", "new").failed(4)
    governed.gov("resolve", "2", "--override", "thing==2.0", "--reason", "r").ok()
    governed.gov("tx", "promote", "2").ok()
    governed.gov("tx", "run", "--drop", "thing").failed(4, "want different versions of thing")


def put_into_production(context: Context, packs: list[Path]) -> None:
    """As if each had been added, tried and promoted: one commit, since sixty of each take minutes."""
    state = context.head_state()
    registry, groups = state.registry, dict(state.declared.groups)
    for path in packs:
        source = parse_source(str(path), path.parent)
        repository = context.git.fetch(source, None)
        commit = context.git.resolve(source, None)
        lines = tuple((path / "requirements.txt").read_text().split())
        plugin = Plugin(
            id=path.name,
            source=source.public,
            commit=commit,
            tree=context.git.tree_of(repository, commit),
            group=group_of(path.name),
            managed_deps=lines,
            enabled=True,
            promoted=True,
        )
        registry, groups[plugin.group] = registry.with_plugin(plugin), lines
    declared = msgspec.structs.replace(state.declared, groups=groups)
    work = context.home.work / "sixty"
    pyproject, lock = locking.lock(context, work, declared, state.uv_lock)
    generation = locking.identify(context, work, pyproject, lock)
    proposed = dataclasses.replace(state, registry=registry).relocked(pyproject, lock, generation)
    with changing(context):
        committing.commit_state(context, proposed, Origin("promote_post"))


def test_with_sixty_packs_a_new_one_moves_nothing_else(governed: Governed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package has a newer release that nobody asked for."""
    names = [f"lib{number}" for number in range(60)]
    for name in (*names, "shared"):
        governed.wheel(name, "1.0")
    for variable in ("COMFYGOV_CACHE", "UV_CACHE_DIR"):
        monkeypatch.setenv(variable, governed.environment()[variable])
    packs = [governed.pack(f"pack-{name}", f"{name}\nshared\n") for name in names]
    put_into_production(open_home(str(governed.home), "test", Silent()), packs)
    before = governed.installed()
    assert len(before) >= 62
    for name in (*names, "shared"):
        governed.wheel(name, "2.0")
    governed.wheel("fresh", "1.0", ("shared", "lib7>=2"))
    governed.gov("node", "add", str(governed.pack("last", "fresh\n"))).ok()
    tx = promoted(governed, "last")
    assert governed.installed() == before - {"lib7-1.0"} | {"lib7-2.0", "fresh-1.0"}
    assert tx["diff"]["changed"] == [{"name": "lib7", "before": "1.0", "after": "2.0"}]


# -- core packages ---------------------------------------------------------------------------------


def with_numpy(governed: Governed) -> None:
    for version in ("1.0", "2.0"):
        governed.wheel("numpy", version)
    promoted_core(governed, "--dep", "numpy<2")
    promoted_core(governed, "--dep", "numpy")


def promoted_core(governed: Governed, *arguments: str) -> None:
    tx = tried(governed, *arguments)
    governed.gov("tx", "promote", tx["txid"], "--approve-core", "--reason", "test").ok()


def test_core_packages_are_held_where_another_way_exists(governed: Governed) -> None:
    with_numpy(governed)
    governed.wheel("lib", "1.0", ("numpy<2",))
    governed.wheel("lib", "2.0", ("numpy>=2",))
    governed.gov("node", "add", str(governed.pack("pack", "lib\n"))).ok()
    tx = promoted(governed, "pack")
    assert tx["diff"]["added"] == [{"name": "lib", "version": "1.0"}]
    assert {"numpy-1.0", "lib-1.0"} <= governed.installed()


def test_a_core_package_moves_only_with_an_approval_of_exactly_that(governed: Governed) -> None:
    with_numpy(governed)
    governed.gov("node", "add", str(governed.pack("pack", "numpy>=2\n"))).ok()
    tx = tried(governed, "pack")
    assert tx["core_impact"]["changed"] == [{"name": "numpy", "before": "1.0", "after": "2.0"}]
    before = governed.world()
    said = governed.gov("tx", "promote", tx["txid"]).failed(1, "changes core packages", "--approve-core --reason")
    assert "~ numpy 1.0 -> 2.0" in said.stderr
    governed.gov("tx", "promote", tx["txid"], "--approve-core").failed(1, "needs your approval")
    assert governed.world() == before
    governed.gov("tx", "promote", tx["txid"], "--approve-core", "--reason", "tested").ok()
    line = json.loads((governed.home / "state" / "audit.jsonl").read_text().splitlines()[-1])
    assert (line["approved"], line["reason"]) == (["~ numpy 1.0 -> 2.0"], "tested")


def test_torch_moves_only_as_a_family_that_fits(governed: Governed) -> None:
    """As on PyPI: torchvision says which torch it needs, torchaudio does not."""
    for minor in (10, 11, 12):
        governed.wheel("torch", f"2.{minor}.0")
        governed.wheel("torchvision", f"0.{minor + 15}.0", (f"torch==2.{minor}.0",))
        governed.wheel("torchaudio", f"2.{minor}.0")
    family = ("--dep", "torchvision", "--dep", "torchaudio")
    promoted_core(governed, "--dep", "torch==2.11.0", *family)
    promoted_core(governed, "--dep", "torch")
    governed.gov("node", "add", str(governed.pack("pack", "torch==2.10.0\n"))).ok()
    tx = tried(governed, "pack")
    assert gate(tx, "torch_family")["verdict"] == "pass"
    moved = {(entry["name"], entry["after"]) for entry in tx["core_impact"]["changed"]}
    assert moved == {("torch", "2.10.0"), ("torchvision", "0.25.0"), ("torchaudio", "2.10.0")}
    newest = {("torch", "2.12.0"), ("torchvision", "0.27.0"), ("torchaudio", "2.12.0")}
    for wish in (("--upgrade", "torch"), ("--dep", "torch==2.12.0"), ("--dep", "torchaudio==2.12.0")):
        moving = tried(governed, *wish)
        assert gate(moving, "torch_family")["verdict"] == "pass"
        assert {(entry["name"], entry["after"]) for entry in moving["core_impact"]["changed"]} == newest


def test_a_core_package_that_need_not_move_stays_though_another_must(governed: Governed) -> None:
    for version in ("1.0", "2.0"):
        governed.wheel("numpy", version)
        governed.wheel("xformers", version)
    promoted_core(governed, "--dep", "numpy==1.0", "--dep", "xformers==1.0")
    promoted_core(governed, "--dep", "numpy", "--dep", "xformers")
    governed.wheel("aaa", "1.0")
    governed.wheel("aaa", "2.0", ("xformers>=2",))
    governed.gov("node", "add", str(governed.pack("pack", "numpy>=2\naaa\n"))).ok()
    tx = tried(governed, "pack")
    assert tx["core_impact"]["changed"] == [{"name": "numpy", "before": "1.0", "after": "2.0"}]


def with_a_forced_version(governed: Governed) -> None:
    """`new` is in production with thing==1.0 forced against `old`."""
    for version in ("1.0", "2.0", "3.0"):
        governed.wheel("thing", version)
    governed.promote_pack("old", "thing>=2\n")
    governed.gov("node", "add", str(governed.pack("new", "thing<2\n"))).ok()
    governed.gov("tx", "run", "new").failed(4)
    governed.gov("resolve", "2", "--override", "thing==1.0", "--reason", "r").ok()
    governed.gov("tx", "promote", "2").ok()


def test_a_removal_moves_nothing_that_stays(governed: Governed) -> None:
    with_a_forced_version(governed)
    removed = governed.gov("node", "remove", "new").ok()
    assert "`gov tx run --drop thing` tries that" in removed.stderr
    assert "thing-1.0" in governed.installed()
    promoted(governed, "--drop", "thing")
    assert "thing-3.0" in governed.installed()


def test_a_version_that_production_forces_is_said_when_it_goes_against_a_pack(governed: Governed) -> None:
    with_a_forced_version(governed)
    governed.gov("node", "add", str(governed.pack("third", "thing>=3\n"))).ok()
    assert gate(tried(governed, "third"), "overrides")["evidence"] == [
        "thing==1.0 is forced since tx0002 (r), against: thing>=3"
    ]


# -- packages that overwrite each other ------------------------------------------------------------


def with_opencv(governed: Governed) -> None:
    for name in ("opencv-python", "opencv-python-headless", "opencv-contrib-python"):
        for version in ("4.10", "4.11"):
            governed.wheel(name, version, modules={"cv2/__init__.py": f"name = {name!r}\n"})


def opencvs(governed: Governed) -> set[str]:
    return {name for name in governed.installed() if name.startswith("opencv")}


def test_of_packages_that_overwrite_each_other_one_is_kept(governed: Governed) -> None:
    with_opencv(governed)
    governed.promote_pack("first", "opencv-python==4.10\n")
    governed.gov("node", "add", str(governed.pack("second", "opencv-python-headless>=4.10\n"))).ok()
    tx = promoted(governed, "second")
    assert "opencv-python is kept" in gate(tx, "overlapping_packages")["reason"]
    assert opencvs(governed) == {"opencv_python-4.10"}
    governed.gov("node", "add", str(governed.pack("third", "opencv-contrib-python\n"))).ok()
    promoted(governed, "third")  # it holds what the others do, and more
    assert opencvs(governed) == {"opencv_contrib_python-4.10"}
    governed.gov("node", "remove", "third").ok()
    assert len(opencvs(governed)) == 1
    governed.gov("node", "remove", "second").ok()
    assert opencvs(governed) == {"opencv_python-4.10"}
    assert "alternatives" not in (governed.home / "pyproject.toml").read_text()
    governed.gov("node", "remove", "first").ok()
    assert opencvs(governed) == set()


def test_the_policy_chooses_the_one_to_keep(governed: Governed) -> None:
    with_opencv(governed)
    with (governed.home / "config.toml").open("a") as config:
        config.write('\n[policy]\nkeep = ["opencv-python-headless"]\n')
    governed.promote_pack("first", "opencv-python>=4.11\n")
    assert opencvs(governed) == {"opencv_python-4.11"}  # one alone overwrites nothing
    governed.promote_pack("second", "opencv-contrib-python\n")
    assert opencvs(governed) == {"opencv_python_headless-4.11"}


# -- ComfyUI ---------------------------------------------------------------------------------------


def test_comfyui_is_updated_with_its_requirements_and_goes_back(governed: Governed) -> None:
    governed.promote_pack("pack")
    governed.wheel("newly-needed", "1.0")
    first = git(governed.comfyui_source, "rev-parse", "HEAD")
    second = change(governed.comfyui_source, "requirements.txt", "basis\nnewly-needed\n")
    tx = promoted(governed, "--comfyui", "main")
    assert (tx["kind"], tx["node_id"]) == ("comfyui_update", "ComfyUI")
    assert (tx["comfyui"]["before"], tx["comfyui"]["after"]) == (first, second)
    assert git(governed.home / "ComfyUI", "rev-parse", "HEAD") == second
    assert "newly_needed-1.0" in governed.installed()
    assert governed.json("verify")["findings"] == []
    governed.gov(
        "rollback", governed.json("tx", "inspect", tx["txid"])["transaction"]["promotion"]["snapshot_pre"]
    ).ok()
    assert git(governed.home / "ComfyUI", "rev-parse", "HEAD") == first
    assert "newly_needed-1.0" not in governed.installed()
    again = promoted(governed, "--comfyui", second)  # by its commit, with a pack in the same change
    assert again["comfyui"]["after"] == second


def test_every_enabled_pack_is_checked_on_the_new_comfyui(governed: Governed) -> None:
    says = '[project]\nname = "p"\nversion = "1"\n[tool.comfy]\nrequires-comfyui = "<1.0"\n'
    governed.promote_pack("strict", files={"pyproject.toml": says})
    governed.promote_pack("user", files={"__init__.py": "import comfy.utils\nfrom nodes import NODE_CLASS_MAPPINGS\n"})
    before = governed.world()
    change(governed.comfyui_source, "comfyui_version.py", '__version__ = "2.0"\n')
    ran = governed.gov("--json", "tx", "run", "--comfyui", "main")
    assert ran.exit_code == 1
    fit = gate(ran.data["transaction"], "declared_fit")
    assert fit["reason"] == "strict: it requires ComfyUI <1.0, this home has 2.0"
    (governed.comfyui_source / "comfy" / "utils.py").unlink()
    commit_all(governed.comfyui_source)
    assert governed.gov("tx", "run", "--comfyui", "main").exit_code == 1
    assert governed.world() == before
