"""A home is its owner's alone to write, and comfygov follows no link out of it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfygov.ports.comfy_api import free_port
from tests.kit.governed import Governed

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN_UMASK = ("sh", "-c", 'umask 000; exec "$@"', "sh")
PLACES = (".venvs", "snapshots", "state", ".venv-candidate")
FILES = ("state/head.json", "state/audit.jsonl", "state/home.lock", "state/transactions", "state/logs", "state/work")


def writable_by_others(home: Path) -> Iterator[Path]:
    for path in (home, *home.rglob("*")):
        if not path.is_symlink() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield path


def test_nobody_else_may_write_a_home_whatever_the_umask(bare: Governed) -> None:
    open_to_all = Governed(bare.root, prefix=OPEN_UMASK)
    open_to_all.wheel("extra", "1.0")
    open_to_all.init().ok()
    open_to_all.promote_pack("one", "extra\n")
    open_to_all.gov("rollback", "1").ok()
    assert not list(writable_by_others(bare.home))
    open_to_all.gov("verify", "--deep").ok()


def test_what_comfyui_makes_in_production_has_the_umask_of_its_user(bare: Governed) -> None:
    writer = "open('made-here', 'w').close()\nNODE_CLASS_MAPPINGS = {}\n"
    open_to_all = Governed(bare.root, prefix=OPEN_UMASK)
    open_to_all.init().ok()
    open_to_all.promote_pack("writer", files={"__init__.py": writer})
    open_to_all.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    open_to_all.gov("stop").ok()
    assert (bare.home / "ComfyUI" / "made-here").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("name", [*PLACES, *FILES])
def test_a_link_in_the_place_of_our_own_files_is_not_followed(governed: Governed, name: str) -> None:
    governed.promote_pack("one")
    place, outside = governed.home / name, governed.root / "outside"
    place.rename(outside) if place.exists() else outside.mkdir()
    place.symlink_to(outside)
    before = {path: path.lstat().st_mtime_ns for path in (outside, *outside.rglob("*"))}
    for command in ("status", "gc", "snapshot create", "rollback 1", "tx run one"):
        governed.gov(*command.split()).failed(1, "is a link", "does not follow links out of a home", str(outside))
    assert {path: path.lstat().st_mtime_ns for path in (outside, *outside.rglob("*"))} == before


def test_links_of_others_in_a_home_are_left_alone(governed: Governed) -> None:
    """gc and removal take a link away and nothing behind it; a truth file that is one is not read."""
    governed.promote_pack("one")
    outside = governed.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    secret = governed.root / "secret"
    secret.write_text("not to be copied")
    (governed.home / "state" / "work").mkdir(exist_ok=True)
    (governed.home / "state" / "work" / "build-1").symlink_to(outside)
    (governed.home / ".venvs" / ".abc.999999.comfygov-staging").symlink_to(outside)
    (governed.home / "ComfyUI" / "custom_nodes" / "one" / "data").symlink_to(outside)
    (governed.home / "uv.lock").unlink()
    (governed.home / "uv.lock").symlink_to(secret)
    governed.gov("verify").failed(3, "uv.lock: differs from head")
    governed.gov("sync").ok()
    governed.gov("node", "remove", "one", "--purge-code").ok()
    governed.gov("gc").ok()
    assert (outside / "precious").read_text() == "precious"
    assert secret.read_text() == "not to be copied"
    kept = [path for path in (governed.home / "state" / "rescued").rglob("*") if path.is_file()]
    assert "not to be copied" not in [path.read_text() for path in kept if path.name == "uv.lock"]


def test_models_on_another_disk_are_the_users_choice(governed: Governed) -> None:
    models, elsewhere = governed.home / "models", governed.root / "elsewhere"
    models.rename(elsewhere)
    models.symlink_to(elsewhere)
    governed.promote_pack("one")
    governed.gov("verify").ok()


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs another user")
def test_a_home_of_somebody_else_can_be_looked_at(governed: Governed) -> None:
    """As `nobody`: reading works as far as the rights go, changing is refused with the file's name."""
    python = Path(sys.executable)
    if not os.access(python, os.X_OK) or any(not part.stat().st_mode & stat.S_IXOTH for part in python.parents):
        pytest.skip("this Python cannot be reached by another user")
    for part in (governed.root, *governed.root.parents):
        if not part.stat().st_mode & stat.S_IXOTH:
            pytest.skip(f"{part} cannot be reached by another user")
    code = "import os, sys; os.setgid(65534); os.setuid(65534); os.execv(sys.argv[1], sys.argv[1:])"
    nobody = Governed(governed.root, {"HOME": "/nonexistent"}, prefix=(sys.executable, "-c", code))
    nobody.gov("status").ok()
    nobody.gov("snapshot", "create").failed(1, "cannot be written", "check its owner and mode")
