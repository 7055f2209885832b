"""File system steps: atomic writes, links, hardlinked trees, removal."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.errors import Code
from comfygov.ports import fs

from .conftest import Refused


@given(st.binary(max_size=200))
def test_a_written_file_holds_what_was_given(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "written"
    fs.write_atomic(path, data)
    assert path.read_bytes() == data
    assert not fs.write_if_changed(path, data)
    assert fs.write_if_changed(path, data + b"x")


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    (tmp_path / "taken" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        fs.write_atomic(tmp_path / "taken", b"data")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fs.write_atomic(path, b"old")
    code = f"""
import resource, signal
from pathlib import Path
from comfygov.ports import fs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    fs.write_atomic(Path({str(path)!r}), bytes(100_000))
except OSError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_a_write_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to("theirs")
    assert fs.write_if_changed(tmp_path / "link", b"theirs")
    fs.write_atomic(tmp_path / "link", b"ours")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "link").is_symlink()


def test_lines_are_appended_one_by_one(tmp_path: Path) -> None:
    for line in (b"a", b"b\n", b"c\n\n"):
        fs.append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_bytes() == b"a\nb\nc\n"


def test_a_link_is_made_flipped_and_left_when_it_is_right(tmp_path: Path) -> None:
    link = tmp_path / "link"
    for target in ("one", "two"):
        (tmp_path / target).mkdir()
        (tmp_path / target / "x").write_text(target)
        assert fs.flip_link(link, target)
        assert (link / "x").read_text() == target
        assert not fs.flip_link(link, target)
    assert sorted(os.listdir(tmp_path)) == ["link", "one", "two"]
    assert fs.flip_link(link, "gone")
    assert fs.flip_link(link, "one")
    assert os.listdir(tmp_path / "two") == ["x"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_link_is_not_replaced_by_one(kind: str, tmp_path: Path, refused: Refused) -> None:
    link = tmp_path / "link"
    link.mkdir() if kind == "folder" else link.write_text("mine")
    with refused(Code.ALREADY_EXISTS) as caught:
        fs.flip_link(link, "x")
    assert str(link) in caught.value.hint
    assert not link.is_symlink()
    assert os.listdir(tmp_path) == ["link"]


def make_tree(root: Path) -> Path:
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "deep" / "er" / "file").write_text("x")
    (root / "top").write_text("t")
    (root / "top").chmod(0o755)
    (root / ".lock").write_text("")
    (root / "deep" / ".lock").write_text("")
    (root / "to-file").symlink_to("deep/er/file")
    (root / "to-folder").symlink_to("deep")
    (root / "to-nothing").symlink_to("/no/such/thing")
    return root


def test_a_hardlinked_tree_shares_files_and_keeps_links(tmp_path: Path) -> None:
    source, target = make_tree(tmp_path / "a"), tmp_path / "b"
    fs.hardlink_tree(source, target, skip=frozenset({".lock"}))
    for name in ("deep/er/file", "top", "deep/.lock"):
        assert (target / name).stat().st_ino == (source / name).stat().st_ino
    for name in ("to-file", "to-folder", "to-nothing"):
        assert (target / name).readlink() == (source / name).readlink()
    assert (target / "empty").is_dir()
    assert not (target / ".lock").exists()


def test_an_unshared_tree_has_its_own_bytes_and_the_same_content(tmp_path: Path) -> None:
    source, target = make_tree(tmp_path / "a"), tmp_path / "b"
    fs.hardlink_tree(source, target)
    fs.unshare_tree(target)
    (target / "top").write_text("changed")
    assert (source / "top").read_text() == "t"
    assert (target / "top").stat().st_mode & 0o777 == 0o755
    assert (target / "to-nothing").readlink() == Path("/no/such/thing")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("folders", [0, 50])
def test_removal_never_follows_a_link(tmp_path: Path, folders: int) -> None:
    kept = make_tree(tmp_path / "kept")
    doomed = tmp_path / "doomed"
    for number in range(folders):
        (doomed / f"{number}" / "deep").mkdir(parents=True)
        (doomed / f"{number}" / "link").symlink_to(kept)
        (doomed / f"{number}" / "deep" / "file").hardlink_to(kept / "top")
    (doomed / "x").mkdir(parents=True)
    (doomed / "x" / "link").symlink_to(kept)
    (doomed / "file").hardlink_to(kept / "top")
    fs.remove_tree(doomed)
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("link", "dangling", "not there"):
        fs.remove_tree(tmp_path / name)
    assert os.listdir(tmp_path) == ["kept"]
    assert (kept / "deep" / "er" / "file").read_text() == "x"
    assert (kept / "top").read_text() == "t"


AS_SOMEBODY = """
import concurrent.futures.thread, os, shutil, sys  # while this interpreter's library can still be read
from pathlib import Path
from comfygov.ports import fs
root = Path(sys.argv[1])
if os.geteuid() == 0:
    os.chown(root, 65534, 65534)
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
(root / "tree" / "closed" / "in").mkdir(parents=True)
(root / "tree" / "closed" / "in" / "file").touch()
for number in range(int(sys.argv[3])):
    (root / "tree" / str(number)).mkdir()
(root / "tree" / "closed").chmod(int(sys.argv[2], 8))
fs.remove_tree(root / "tree")
print(os.listdir(root))
"""


@pytest.mark.parametrize(
    "mode",
    [
        "555",
        "000",
    ],
)
@pytest.mark.parametrize("folders", ["0", "50"])
def test_a_folder_that_is_closed_to_its_owner_is_removed(mode: str, folders: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            [sys.executable, "-c", AS_SOMEBODY, root, mode, folders], capture_output=True, text=True, timeout=60
        )
        for path in Path(root).iterdir():
            subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_full_or_closed_disk_is_said_in_words(tmp_path: Path, refused: Refused) -> None:
    with refused(Code.DISK_FULL) as caught, fs.explained(tmp_path):
        Path("/dev/full").write_text("x")
    assert str(tmp_path) in caught.value.message
    with refused(Code.TOOL_FAILED), fs.explained(tmp_path):
        os.listdir(tmp_path / "gone")
    assert fs.free_bytes(tmp_path) > 0


def test_an_error_names_the_file_that_is_meant_and_not_the_one_beside_it(tmp_path: Path) -> None:
    for name in ("tx0003.json", ".venv-prod"):
        twice = fs.beside(fs.beside(tmp_path / name, "tmp"), "tmp")
        said = fs.explain_os_error(OSError(errno.EROFS, "Read-only file system", str(twice)))
        assert said.message == f"{tmp_path / name} cannot be written: Read-only file system"


def test_a_full_disk_without_a_file_name_says_which_disks_it_can_be() -> None:
    nameless = fs.explain_os_error(OSError(errno.ENOSPC, "No space left on device"))
    assert nameless.code == Code.DISK_FULL
    assert nameless.message == "a disk is full: the home's, cache's or TMPDIR's"
    named = fs.explain_os_error(OSError(errno.ENOSPC, "No space left on device", "/disk/file"))
    assert named.message == "the disk that holds /disk/file is full"
