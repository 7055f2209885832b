"""`gov image context`: what a build of an image is given, without any engine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from comfygov.versions import lockfile
from tests.kit.governed import Governed
from tests.kit.repos import commit_all, git, make_pack

HOSTILE = ("-rf", "a b", "$(touch x)", "quote'\"", "new\nline", "é", "`id`", "a\\b")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Governed:
    """A home with a package named torch, a pack with a submodule, odd names and edits, a disabled pack; and `one`."""
    made = Governed(tmp_path_factory.mktemp("image"))
    for name, version, needs in (
        ("basis", "1.0", ()),
        ("torch", "2.9.0", ("sums",)),
        ("sums", "1", ()),
        ("extra", "2", ()),
    ):
        made.wheel(name, version, needs)
    made.init(requirements="basis\ntorch\n").ok()
    inner = make_pack(made.root / "packs" / "inner")
    pack = made.pack(
        "alpha", "extra\n", files={"crlf.txt": "a\nb\n", "gone.txt": "1", ".gitattributes": "crlf.txt eol=crlf\n"}
    )
    for name in HOSTILE:
        (pack / name).write_text(name)
    (pack / os.fsdecode(b"no-utf8-\xff")).write_text("x")
    (pack / "link").symlink_to("/etc/passwd")
    git(pack, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "inner")
    commit_all(pack)
    made.gov("node", "add", str(pack)).ok()
    made.gov("tx", "promote", made.json("tx", "run", "alpha")["transaction"]["txid"]).ok()
    made.promote_pack("beta")
    made.gov("node", "disable", "beta").ok()
    nodes = made.home / "ComfyUI" / "custom_nodes" / "alpha"
    (nodes / "gone.txt").unlink()
    (nodes / "mine.sh").write_text("#!/bin/sh\n")
    (nodes / "mine.sh").chmod(0o755)
    (nodes / "inner" / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    made.gov("version", "create", "one").ok()
    return made


@pytest.fixture(scope="module")
def context(made: Governed) -> Path:
    made.gov("image", "context", "--version", "one", "-o", str(made.root / "context")).ok()
    return made.root / "context"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def config(context: Path, name: str) -> Any:
    return json.loads((context / "config" / name).read_bytes())


def test_same_lock_same_bytes_also_from_elsewhere(made: Governed, context: Path) -> None:
    lock = made.root / "elsewhere" / "one.lock.json"
    lock.parent.mkdir()
    shutil.copy(made.home / "lockfiles" / "comfy-one.lock.json", lock)
    again = made.json("image", "context", "--lock", str(lock), "-o", str(made.root / "again"))
    assert files(made.root / "again") == files(context)
    assert not again["is_pinned"]
    (made.root / "odd # 100%").mkdir()
    made.gov("image", "context", "--version", "one", "-o", "../ä", cwd=made.root / "odd # 100%").ok()
    assert files(made.root / "ä") == files(context)
    times = {path.stat().st_mtime for path in context.rglob("*")}
    assert times == {315532800}
    dockerfile = (context / "Dockerfile").read_text()
    assert str(made.root) not in dockerfile + (context / "python" / "all" / "pylock.toml").read_text()


def test_code_is_as_the_lock_says_with_submodules_and_edits(context: Path, tmp_path: Path) -> None:
    with tarfile.open(context / "packs" / "alpha" / "code.tar") as archive:
        members = {member.name: member for member in archive}
        assert {member.uid for member in members.values()} == {0}
        assert {member.mode for member in members.values()} == {0o644, 0o755, 0o777}
    assert set(HOSTILE) <= members.keys()
    assert "no-utf8-\udcff" in members
    assert members["link"].linkname == "/etc/passwd"
    assert "gone.txt" not in members
    assert not [name for name in members if ".git" in name.split("/")]
    subprocess.run(["tar", "-xf", context / "packs" / "alpha" / "code.tar", "-C", tmp_path], check=True)
    assert (tmp_path / "crlf.txt").read_bytes() == b"a\r\nb\r\n"
    assert (tmp_path / "inner" / "__init__.py").read_text() == "NODE_CLASS_MAPPINGS = {}\n"
    assert os.access(tmp_path / "mine.sh", os.X_OK)


def test_only_what_is_enabled_is_in_it(context: Path) -> None:
    assert sorted(path.name for path in (context / "packs").iterdir()) == ["alpha"]
    assert config(context, "runtime.json")["packs"] == ["websocket_image_save.py", "alpha"]


def test_no_name_of_a_file_reaches_the_dockerfile(context: Path) -> None:
    text = (context / "Dockerfile").read_text()
    for name in HOSTILE:
        assert f" {name}" not in text
    assert "<<" not in text
    assert "# syntax=" not in text


def test_torch_has_a_layer_that_a_new_pack_leaves_alone(made: Governed, context: Path) -> None:
    torch = (context / "python" / "torch" / "pylock.toml").read_text()
    assert set(re.findall(r'^name = "(\w+)"$', torch, re.MULTILINE)) == {"torch", "sums"}
    assert sorted(path.name for path in (context / "python" / "torch" / "wheels").iterdir()) == [
        "sums-1-py3-none-any.whl",
        "torch-2.9.0-py3-none-any.whl",
    ]
    made.gov("node", "enable", "beta").ok()
    made.gov("version", "create", "two").ok()
    made.gov("node", "disable", "beta").ok()
    made.gov("image", "context", "--version", "two", "-o", str(made.root / "two")).ok()
    before, after = ((folder / "Dockerfile").read_text().splitlines() for folder in (context, made.root / "two"))
    start = before.index("# What the image is, and how it is started.")
    assert before[1 : start - 1] == after[1 : start - 1]
    assert any("packs/beta" in line for line in after)


def test_a_folder_that_is_not_empty_is_left_alone(made: Governed, context: Path) -> None:
    made.gov("image", "context", "--version", "one", "-o", str(context)).failed(1, "is there and is not empty")
    assert (context / "Dockerfile").is_file()


def test_a_killed_command_leaves_nothing_that_the_next_does_not_take_away(made: Governed, tmp_path: Path) -> None:
    killed = made.start("image", "context", "--version", "one", "-o", str(tmp_path / "c"))
    while not (left := [path.name for path in tmp_path.iterdir()]):
        assert killed.poll() is None
    killed.kill()
    killed.communicate()
    assert all(name.startswith(".c.") for name in left)
    assert any(tmp_path.iterdir()), "it was killed before it had anything to leave"
    made.gov("image", "context", "--version", "one", "-o", str(tmp_path / "c")).ok()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_without_an_engine_the_error_names_the_three_and_the_context(made: Governed, tmp_path: Path) -> None:
    for name in ("git", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    poor = Governed(made.root, {"PATH": str(tmp_path)})
    poor.gov("image", "build", "--version", "one").failed(
        1, "docker, podman or buildah", "docker: is not installed", "gov image context --version one -o DIR"
    )
    poor.gov("image", "build", "--version", "one", "--engine", "podman").failed(1, "podman cannot be used")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--base", "--privileged"), "no name of an image"),
        (("--tag", "a b"), "no name of an image"),
        (("--torch-backend", "cu999"), "no torch build"),
        (("--secret", "id=x"), "a secret is"),
        (("--secret", "id=x,src=/nowhere"), "there is no file /nowhere"),
    ],
)
def test_bad_words_stop_before_anything_is_built(made: Governed, option: tuple[str, str], words: str) -> None:
    ran = made.gov("image", "build", "--version", "one", *option)
    assert ran.exit_code == 2, ran
    assert words in ran.stderr


def test_a_lock_and_a_name_have_to_be_about_one_version(made: Governed, context: Path, tmp_path: Path) -> None:
    lock = str(made.home / "lockfiles" / "comfy-one.lock.json")
    made.gov("image", "context", "--version", "one", "--lock", lock, "-o", str(tmp_path / "c")).ok()
    assert files(tmp_path / "c") == files(context)
    words = ("image", "context", "--version", "two", "--lock", lock, "-o", str(tmp_path / "d"))
    made.gov(*words).failed(2, "is the version `one`, not `two`")


def test_a_version_that_is_not_for_linux_is_refused(made: Governed, tmp_path: Path) -> None:
    lock = lockfile.read(made.home / "lockfiles" / "comfy-one.lock.json")
    python = msgspec.structs.replace(lock.python, platforms=("sys_platform == 'darwin'",))
    path = tmp_path / "mac.lock.json"
    path.write_bytes(lockfile.encode(lockfile.sealed(msgspec.structs.replace(lock, python=python))))
    made.gov("image", "context", "--lock", str(path), "-o", str(tmp_path / "c")).failed(2, "is not for Linux")
    assert list(tmp_path.iterdir()) == [path]


def test_models_come_along_when_they_are_asked_for(made: Governed, tmp_path: Path) -> None:
    data = b"weights" * 100
    checksum = hashlib.sha256(data).hexdigest()
    (made.home / "models" / "loras" / "small $(id).safetensors.bin").write_bytes(data)
    entry = {"name": "small", "target_path": "loras/small $(id).safetensors.bin", "checksum": f"sha256:{checksum}"}
    other = {**entry, "target_path": "my kind/copy.bin"}
    (made.home / "models" / "my kind").mkdir()
    (made.home / "models" / "my kind" / "copy.bin").write_bytes(data)
    (made.home / "models" / "spec.yml").write_text(json.dumps({"models": [entry, other]}))
    made.gov("version", "create", "with-model").ok()
    found = made.json("image", "context", "--version", "with-model", "--with-models", "-o", str(tmp_path / "c"))
    assert found["models"] == 2
    folders = sorted((tmp_path / "c" / "models").iterdir())
    assert {folder.name.partition("-")[0] for folder in folders} == {checksum}
    assert {(folder / "target").read_text() for folder in folders} == {entry["target_path"], other["target_path"]}
    assert all((folder / "file").read_bytes() == data for folder in folders)
    assert "$(id)" not in (tmp_path / "c" / "Dockerfile").read_text()
    assert "my kind: my kind" in (tmp_path / "c" / "config" / "extra_model_paths.yaml").read_text()
    made.gov("image", "context", "--version", "with-model", "-o", str(tmp_path / "d")).ok()
    assert not (tmp_path / "d" / "models").exists()


def test_files_for_runpod_and_kubernetes(made: Governed, tmp_path: Path) -> None:
    words = ("image", "deploy-files", "--version", "one", "--image", "r.example/comfy:1", "--target")
    for target in ("runpod", "kubernetes"):
        found = made.json(*words, target, "-o", str(tmp_path / target))
        assert sorted(found["files"]) == sorted(path.name for path in (tmp_path / target).iterdir())
    assert "r.example/comfy:1" in (tmp_path / "kubernetes" / "deployment.yaml").read_text()
    assert "nvidia.com/gpu" not in (tmp_path / "kubernetes" / "deployment.yaml").read_text()
    made.gov(*words, "runpod", "-o", str(tmp_path / "runpod")).failed(1, "is there and is not empty")
    made.gov(*words, "kubernetes", "-o", str(tmp_path / "x"), "--namespace", "A b").failed(2, "is no namespace")
