"""One ComfyUI is governed by one home, whatever is moved, copied or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.kit.governed import Governed, Ran
from tests.kit.repos import commit_all, git, make_comfyui


@pytest.fixture
def tree(bare: Governed) -> Path:
    """A ComfyUI outside of every home, and `home` that governs it."""
    made = make_comfyui(bare.root / "ComfyUI")
    bare.wheels.mkdir()
    govern(bare, bare.home, made).ok()
    return made


def govern(bare: Governed, home: Path, tree: Path) -> Ran:
    options = ("--find-links", str(bare.wheels), "--index-url", "none")
    return bare.gov("init", "--path", str(home), "--comfyui-dir", str(tree), *options)


def add(bare: Governed, home: Path, name: str) -> Ran:
    return bare.gov("node", "add", str(bare.pack(name)), "--home", str(home))


def test_a_refused_init_writes_nothing(bare: Governed, tree: Path) -> None:
    other = bare.root / "other"
    govern(bare, other, tree).failed(1, f"is governed by {bare.home}", f"gov status --home {bare.home}")
    assert not other.exists()
    git(tree, "branch", "old")
    commit_all(tree)
    before = git(tree, "rev-parse", "HEAD")
    bare.gov("init", "--path", str(other), "--comfyui-dir", str(tree), "--ref", "old").failed(2, "--ref does not go")
    assert not other.exists()
    assert git(tree, "rev-parse", "HEAD") == before


def test_a_home_to_be_that_names_a_governed_tree_touches_nothing(bare: Governed, tree: Path) -> None:
    """As an init of an older release, which wrote its settings before it refused, left it."""
    other = bare.root / "other"
    (other / "state").mkdir(parents=True)
    (other / "config.toml").write_text(f'[paths]\ncomfyui_dir = "{tree}"\n')
    git(tree, "branch", "old")
    before = git(tree, "rev-parse", "HEAD")
    for options in (("--ref", "old"), ("--repo", str(make_comfyui(bare.root / "another"))), ()):
        ran = bare.gov("init", "--path", str(other), *options).failed(1, f"is governed by {bare.home}")
        assert "rm -r" not in ran.stderr
    assert git(tree, "rev-parse", "HEAD") == before
    bare.gov("status").ok()


def test_a_moved_home_keeps_its_comfyui(bare: Governed, tree: Path) -> None:
    moved = bare.root / "moved"
    bare.home.rename(moved)
    add(bare, moved, "one").ok()
    govern(bare, bare.root / "other", tree).failed(1, f"is governed by {moved}")


def test_a_home_that_lost_its_comfyui_to_another_is_told(bare: Governed, tree: Path) -> None:
    moved, other = bare.root / "moved", bare.root / "other"
    bare.home.rename(moved)
    govern(bare, other, tree).ok()
    add(bare, moved, "one").failed(1, f"is governed by {other}")
    add(bare, other, "two").ok()


def test_a_copied_home_does_not_change_the_comfyui_of_the_first(bare: Governed, tree: Path) -> None:
    copy = bare.root / "copy"
    shutil.copytree(bare.home, copy, symlinks=True)
    add(bare, copy, "one").failed(1, f"is governed by {bare.home}")
    add(bare, bare.home, "two").ok()


def test_a_home_copied_with_its_comfyui_inside_has_its_own(governed: Governed) -> None:
    copy = governed.root / "copy"
    shutil.copytree(governed.home, copy, symlinks=True)
    add(governed, copy, "one").ok()
    add(governed, governed.home, "two").ok()


def test_the_place_of_a_deleted_home_is_free(bare: Governed, tree: Path) -> None:
    shutil.rmtree(bare.home)
    govern(bare, bare.root / "other", tree).ok()


def test_a_worktree_is_one_comfyui_too(bare: Governed, tree: Path) -> None:
    worktree = bare.root / "worktree"
    git(tree, "worktree", "add", "-q", str(worktree))
    govern(bare, bare.root / "one", worktree).ok()
    govern(bare, bare.root / "two", worktree).failed(1, f"is governed by {bare.root / 'one'}")


def test_another_way_to_the_same_home_is_the_same_home(bare: Governed, tree: Path) -> None:
    link = bare.root / "link"
    link.symlink_to(bare.home)
    add(bare, link, "one").ok()
    add(bare, bare.home, "two").ok()
