"""`gov init --comfyui-dir`: an install that is there already is governed without being changed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from comfygov.ports.comfy_api import ComfyApi, free_port
from tests.kit.repos import git, make_comfyui, make_pack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.governed import Governed

LIST_CHECKPOINTS = """
import folder_paths
names = folder_paths.get_filename_list("checkpoints")
assert {"mine.safetensors", "home.safetensors"} <= set(names), names
NODE_CLASS_MAPPINGS = {}
"""


def existing(bare: Governed, tmp_path: Path) -> Path:
    tree = make_comfyui(tmp_path / "my ComfyUI")
    make_pack(tree / "custom_nodes" / "already-here")
    (tree / "models" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (tree / "models" / "checkpoints" / "mine.safetensors").write_bytes(b"0")
    bare.wheels.mkdir(exist_ok=True)
    bare.gov("init", "--comfyui-dir", str(tree), "--find-links", str(bare.wheels), "--index-url", "none").ok()
    return tree


def test_an_existing_install_is_not_changed(bare: Governed, tmp_path: Path) -> None:
    tree = existing(bare, tmp_path)
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "symbolic-ref", "HEAD") == "refs/heads/main"
    (pack,) = bare.json("node", "list")["plugins"]
    assert (pack["id"], pack["promoted"], pack["enabled"]) == ("already-here", False, False), (
        "nobody knows its packages"
    )
    assert not (bare.home / "ComfyUI").exists()
    port = free_port()
    bare.gov("run", "--detach", "--", "--port", str(port)).ok()
    assert "already_here" not in ComfyApi("127.0.0.1", port).object_info()
    bare.gov("stop").ok()
    bare.gov("tx", "run", "already-here").ok()


def test_a_trial_sees_the_models_of_both_places(bare: Governed, tmp_path: Path) -> None:
    existing(bare, tmp_path)
    (bare.home / "models" / "checkpoints" / "home.safetensors").write_bytes(b"0")
    bare.gov("node", "add", str(bare.pack("finder", files={"__init__.py": LIST_CHECKPOINTS}))).ok()
    bare.gov("tx", "run", "finder").ok()


def test_trees_that_cannot_be_governed(bare: Governed, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bare.gov("init", "--comfyui-dir", str(tmp_path / "empty")).failed(1, "is no ComfyUI: main.py")
    bare.gov("init", "--comfyui-dir", str(tmp_path / "nowhere"), "--path", "other").failed(1, "is no ComfyUI")
    assert not bare.home.exists()


def test_two_homes_do_not_govern_one_comfyui(bare: Governed, tmp_path: Path) -> None:
    tree = existing(bare, tmp_path)
    wheels = ("--find-links", str(bare.wheels), "--index-url", "none")
    second = ("init", "--path", str(tmp_path / "second"), "--comfyui-dir", str(tree), *wheels)
    bare.gov(*second).failed(1, "is governed by", str(bare.home))


def test_edits_that_a_trial_does_not_see_are_said(bare: Governed, tmp_path: Path) -> None:
    tree = existing(bare, tmp_path)
    (tree / "nodes.py").write_text((tree / "nodes.py").read_text() + "# mine\n")
    bare.gov("node", "add", str(bare.pack("fine"))).ok()
    ran = bare.gov("tx", "run", "fine").ok()
    assert "warn  local_edits" in ran.stdout
    assert "ComfyUI: nodes.py" in ran.stdout


def test_a_comfyui_outside_of_the_home_that_is_not_there_is_not_made_anew_by_itself(
    bare: Governed, tmp_path: Path
) -> None:
    """Its disk may not be mounted: the person's outputs are in that one."""
    git(make_comfyui(tmp_path / "origin"), "clone", "-q", ".", str(tmp_path / "disk" / "ComfyUI"))
    tree = tmp_path / "disk" / "ComfyUI"
    bare.wheels.mkdir(exist_ok=True)
    bare.gov("init", "--comfyui-dir", str(tree), "--find-links", str(bare.wheels), "--index-url", "none").ok()
    tree.rename(tmp_path / "away")
    assert any(str(tree) in line for line in bare.json("status")["drift"])
    for words in (
        ("sync",),
        ("init",),
        ("run", "--detach"),
        ("run", "--sync", "--detach"),
        ("node", "add", str(bare.pack("pa"))),
    ):
        bare.gov(*words).failed(1, str(tree), "paths.comfyui_dir", "git clone")
        assert not tree.exists()
    git(tree.parent, "clone", "-q", str(tmp_path / "origin"), str(tree))
    bare.gov("sync").ok()
    assert git(tree, "rev-parse", "HEAD") == git(tmp_path / "away", "rev-parse", "HEAD")


def test_a_comfyui_that_came_from_nowhere_is_made_anew_from_what_is_kept(bare: Governed, tmp_path: Path) -> None:
    tree = make_comfyui(tmp_path / "disk" / "ComfyUI")
    bare.wheels.mkdir(exist_ok=True)
    bare.gov("init", "--comfyui-dir", str(tree), "--find-links", str(bare.wheels), "--index-url", "none").ok()
    tree.rename(tmp_path / "away")
    (bare.home / "config.toml").write_text(
        (bare.home / "config.toml").read_text().replace(str(tree), "../disk/ComfyUI")  # no less outside of the home
    )
    refused = bare.gov("sync").failed(1, f"there is no ComfyUI at {tree}")
    assert not tree.exists()
    command = refused.stderr.partition("a new one there: ")[2].partition(", then gov sync")[0]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    bare.gov("sync").ok()
    assert git(tree, "rev-parse", "HEAD") == git(tmp_path / "away", "rev-parse", "HEAD")


def test_a_link_to_a_comfyui_on_a_disk_that_is_gone_is_not_written_through(bare: Governed, tmp_path: Path) -> None:
    bare.init().ok()
    (tmp_path / "disk").mkdir()
    (bare.home / "ComfyUI").rename(tmp_path / "disk" / "ComfyUI")
    (bare.home / "ComfyUI").symlink_to(tmp_path / "disk" / "ComfyUI")
    bare.gov("sync").ok()
    (tmp_path / "disk").rename(tmp_path / "not-mounted")
    bare.gov("sync").failed(1, str(tmp_path / "disk" / "ComfyUI"), "the link")
    assert not (tmp_path / "disk").exists()
