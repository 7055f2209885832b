"""`gov init --comfyui-dir`: an install that is there already is governed without being changed."""

from __future__ import annotations

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
