"""Repositories in repositories, and repositories of the person's own where ours are to be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomlkit

from tests.kit.repos import commit_all, git, make_repository

if TYPE_CHECKING:
    from tests.kit.governed import Governed


@pytest.fixture(autouse=True)
def _submodules_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gitconfig").write_text("[protocol.file]\nallow = always\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


def folder_of(governed: Governed, name: str) -> Path:
    return governed.home / "ComfyUI" / "custom_nodes" / name


def add_submodule(parent: Path, child: Path, path: str) -> None:
    git(parent, "submodule", "add", "-q", str(child), path)
    commit_all(parent)


def update(governed: Governed, name: str) -> str:
    """Try the newest commit of a pack; returns the txid."""
    return str(governed.json("tx", "run", name, "--ref", "main")["transaction"]["txid"])


def set_comfyui(config: Path, text: str, place: Path) -> None:
    settings = tomlkit.parse(text)
    settings.setdefault("paths", tomlkit.table())["comfyui_dir"] = str(place)
    config.write_text(tomlkit.dumps(settings))


def test_a_submodule_of_a_submodule_goes_along_and_is_repaired(governed: Governed) -> None:
    innermost = make_repository(governed.root / "innermost", {"c.txt": "1"})
    inner = make_repository(governed.root / "inner", {"b.txt": "1"})
    add_submodule(inner, innermost, "deep")
    pack = governed.pack("nest")
    add_submodule(pack, inner, "lib")
    governed.gov("node", "add", str(pack)).ok()
    governed.gov("tx", "promote", str(governed.json("tx", "run", "nest")["transaction"]["txid"])).ok()
    (innermost / "c.txt").write_text("2")
    commit_all(innermost)
    git(inner / "deep", "pull", "-q", "origin", "main")
    commit_all(inner)
    git(pack / "lib", "pull", "-q", "origin", "main")
    commit_all(pack)
    txid, file = update(governed, "nest"), folder_of(governed, "nest") / "lib/deep/c.txt"
    file.write_text("mine")
    governed.gov("tx", "promote", txid).failed(1, "nest: lib/deep/c.txt (edited)")
    git(file.parent, "checkout", "-q", "--", "c.txt")
    governed.gov("tx", "promote", txid).ok()
    assert file.read_text() == "2"
    governed.gov("verify").ok()
    git(file.parent, "checkout", "-q", "HEAD~1")
    governed.gov("verify").failed(3, "a submodule is at another commit")
    assert "nest: a submodule is at another commit" in governed.json("sync")["repaired"]
    assert file.read_text() == "2"
    governed.gov("verify").ok()


def test_an_update_that_vendors_a_submodule_loses_no_edit_and_goes_back(governed: Governed) -> None:
    inner = make_repository(governed.root / "inner", {"x.txt": "1", "y.txt": "1"})
    pack = governed.pack("vend")
    add_submodule(pack, inner, "flat")
    governed.gov("node", "add", str(pack)).ok()
    governed.gov("tx", "promote", str(governed.json("tx", "run", "vend")["transaction"]["txid"])).ok()
    git(pack, "rm", "-q", "-f", "flat", ".gitmodules")
    (pack / "flat").mkdir(exist_ok=True)
    (pack / "flat/x.txt").write_text("2")
    commit_all(pack)
    txid, flat, before = update(governed, "vend"), folder_of(governed, "vend") / "flat", governed.head()
    (flat / "x.txt").write_text("mine")
    governed.gov("tx", "promote", txid).failed(1, "vend: flat/x.txt (edited)")
    assert (flat / "x.txt").read_text() == "mine"
    git(flat, "checkout", "-q", "--", "x.txt")
    governed.gov("tx", "promote", txid).ok()
    assert {path.name: path.read_text() for path in flat.iterdir()} == {"x.txt": "2"}
    governed.gov("rollback", before).ok()
    assert {path.name for path in flat.iterdir()} == {".git", "x.txt", "y.txt"}
    assert (flat / "x.txt").read_text() == "1"
    governed.gov("verify").ok()


def test_a_rollback_does_not_turn_a_repository_of_the_users_into_a_pack(governed: Governed) -> None:
    governed.promote_pack("pb")
    promoted, folder = governed.head(), folder_of(governed, "pb")
    governed.gov("node", "remove", "pb").ok()
    shutil.rmtree(folder)
    make_repository(folder, {"mine.py": "mine"})
    governed.gov("rollback", promoted).failed(1, "another repository", str(folder))
    assert (folder / "mine.py").read_text() == "mine"
    assert git(folder, "for-each-ref", "refs/comfygov") == ""
    folder.rename(folder.with_name("pb.disabled"))
    governed.gov("rollback", promoted).ok()
    shutil.rmtree(folder)
    make_repository(folder, {"mine.py": "mine"})
    governed.gov("sync").failed(1, "another repository")
    assert (folder / "mine.py").read_text() == "mine"


def test_a_setting_that_leads_to_another_repository_or_nowhere_makes_no_comfyui_there(governed: Governed) -> None:
    governed.promote_pack("pb")
    other = make_repository(governed.root / "other", {"mine.py": "mine"})
    config = governed.home / "config.toml"
    before, now = config.read_text(), governed.head()
    for place in (other, governed.root / "nowhere"):
        set_comfyui(config, before, place)
        governed.gov("node", "disable", "pb").failed(1, str(place), "paths.comfyui_dir")
        assert governed.head() == now
    assert {path.name for path in other.iterdir()} == {".git", "mine.py"}
    assert not (governed.root / "nowhere").exists()
    config.write_text(before)
    governed.gov("node", "disable", "pb").ok()


def test_a_comfyui_that_is_gone_is_made_anew_by_sync(governed: Governed) -> None:
    governed.promote_pack("pb")
    shutil.rmtree(governed.home / "ComfyUI")
    governed.gov("node", "disable", "pb").failed(1, "there is no ComfyUI", "gov sync")
    governed.gov("sync").ok()
    governed.gov("verify").ok()
    governed.gov("node", "disable", "pb").ok()


def test_what_is_only_staged_is_an_obstacle(governed: Governed) -> None:
    pack = governed.pack("one", files={"a.txt": "1"})
    governed.gov("node", "add", str(pack)).ok()
    governed.gov("tx", "promote", str(governed.json("tx", "run", "one")["transaction"]["txid"])).ok()
    (pack / "a.txt").write_text("2")
    commit_all(pack)
    txid, file = update(governed, "one"), folder_of(governed, "one") / "a.txt"
    file.write_text("staged")
    git(file.parent, "add", "a.txt")
    file.write_text("1")
    governed.gov("tx", "promote", txid).failed(1, "one: a.txt (edited)")
    git(file.parent, "reset", "-q")
    governed.gov("tx", "promote", txid).ok()
