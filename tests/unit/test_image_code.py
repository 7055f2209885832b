"""The code of a lock for an image: what a hostile ComfyUI or pack may not do to it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from comfygov.errors import Code
from comfygov.model.version import LockedComfyUI, LockedNode, LockedPython, VersionLock
from comfygov.ops import image_code
from comfygov.ports.git import Git
from tests.unit.conftest import NewUpstream, Refused, Upstream

PYTHON = LockedPython("3.12.1", "==3.12.*", "linux-x86_64", (), (), (), "", "")


def lock_of(comfyui: Upstream, pack: Upstream, name: str = "alpha") -> VersionLock:
    commits = [
        (str(one.path), one.git("rev-parse", "HEAD"), one.git("rev-parse", "HEAD^{tree}")) for one in (comfyui, pack)
    ]
    node = LockedNode(name, *commits[1], enabled=True, promoted=True)
    return VersionLock(1, "one", "sha256:0", LockedComfyUI(*commits[0]), PYTHON, (node,))


def put(tmp_path: Path, lock: VersionLock) -> Path:
    for name in ("context", "scratch"):
        (tmp_path / name).mkdir()
    image_code.put(Git(lambda: tmp_path / "git"), lock, tmp_path / "context", tmp_path / "scratch")
    return tmp_path / "context"


@pytest.mark.parametrize("link", ["custom_nodes", "custom_nodes/alpha"])
def test_a_link_in_comfyui_moves_no_pack_elsewhere(
    tmp_path: Path, new_upstream: NewUpstream, refused: Refused, link: str
) -> None:
    comfyui, pack = new_upstream("comfyui"), new_upstream("pack")
    pack.commit({"__init__.py": "", "bin/gov": "lies"})
    (comfyui.path / link).parent.mkdir(exist_ok=True)
    (comfyui.path / link).symlink_to("/opt/handler/env")
    comfyui.commit({"main.py": ""})
    with refused(Code.BAD_CONFIG) as caught:
        put(tmp_path, lock_of(comfyui, pack))
    assert f"{link} is a symbolic link" in caught.value.message
    assert not list((tmp_path / "context").rglob("code.tar"))


def test_other_links_are_kept_as_they_are(tmp_path: Path, new_upstream: NewUpstream) -> None:
    comfyui, pack = new_upstream("comfyui"), new_upstream("pack")
    (comfyui.path / "link").symlink_to("main.py")
    comfyui.commit({"main.py": "", "custom_nodes/example.py": ""})
    pack.commit({"__init__.py": ""})
    context = put(tmp_path, lock_of(comfyui, pack))
    with tarfile.open(context / "comfyui" / "code.tar") as archive:
        assert archive.getmember("link").linkname == "main.py"


def test_a_pack_that_is_named_as_comfyui_is_refused(
    tmp_path: Path, new_upstream: NewUpstream, refused: Refused
) -> None:
    comfyui, pack = new_upstream("comfyui"), new_upstream("pack")
    for one in (comfyui, pack):
        one.commit({"main.py": ""})
    with refused(Code.USAGE):
        put(tmp_path, lock_of(comfyui, pack, "ComfyUI"))
