"""`gov version`: create, clone, prove, compare, on a home with local wheels, edits and models."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from comfygov.ports.comfy_api import free_port
from tests.kit.governed import Governed
from tests.kit.repos import commit_all, git, make_pack

if TYPE_CHECKING:
    from pathlib import Path

MODEL = b"weights of a small model" * 1000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Governed:
    """A home with a pack that has a package and a submodule, edits, and a model; and its version `one`."""
    made = Governed(tmp_path_factory.mktemp("versions"))
    for name, version in (("basis", "1.0"), ("extra", "2.0")):
        made.wheel(name, version)
    made.init(requirements="basis\n").ok()
    inner = make_pack(made.root / "packs" / "inner")
    pack = made.pack("alpha", "extra\n", files={".gitignore": "cache/\n", "kept.txt": "1"})
    git(pack, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "inner")
    commit_all(pack)
    made.gov("node", "add", str(pack)).ok()
    txid = made.json("tx", "run", "alpha")["transaction"]["txid"]
    made.gov("tx", "promote", txid).ok()
    _edit(made.home)
    _add_model(made.home)
    made.gov("version", "create", "one").ok()
    return made


def _edit(home: Path) -> None:
    nodes = home / "ComfyUI" / "custom_nodes" / "alpha"
    (nodes / "kept.txt").unlink()
    (nodes / "new file.bin").write_bytes(b"\xff\x00new")
    (nodes / "inner" / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (nodes / "cache").mkdir()
    (nodes / "cache" / "big").write_text("ignored")
    (nodes / "run.sh").write_text("#!/bin/sh\n")
    (nodes / "run.sh").chmod(0o755)
    (nodes / "link").symlink_to("run.sh")
    (home / "ComfyUI" / "nodes.py").write_bytes((home / "ComfyUI" / "nodes.py").read_bytes() + b"# mine\r\n")


def _add_model(home: Path) -> None:
    (home / "models" / "loras" / "small.safetensors.bin").write_bytes(MODEL)
    entry = {
        "name": "small",
        "target_path": "loras/small.safetensors.bin",
        "checksum": f"sha256:{hashlib.sha256(MODEL).hexdigest()}",
        "size": len(MODEL),
    }
    (home / "models" / "spec.yml").write_text(json.dumps({"models": [entry]}))


def lock_of(home: Path, name: str = "one") -> Path:
    return home / "lockfiles" / f"comfy-{name}.lock.json"


def at(made: Governed, home: Path) -> Governed:
    return Governed(made.root, {"COMFY_HOME": str(home)})


def problems(home: Governed) -> list[str]:
    """What `gov verify` says of a home; where it says it lies is left out."""
    return [
        f"{found['kind']} {found['problem']}" for found in home.gov("--json", "verify", "--deep").envelope["findings"]
    ]


def test_a_version_is_the_same_bytes_each_time(made: Governed) -> None:
    before = lock_of(made.home).read_bytes()
    assert made.json("version", "create", "one")["unchanged"]
    assert lock_of(made.home).read_bytes() == before


def test_edits_of_every_kind_are_in_it(made: Governed) -> None:
    lock = json.loads(lock_of(made.home).read_bytes())
    files = {file["path"]: file for file in lock["custom_nodes"][0]["patch"]}
    assert sorted(files) == ["inner/__init__.py", "kept.txt", "link", "new file.bin", "run.sh"]
    assert "sha256" not in files["kept.txt"]
    assert files["run.sh"]["mode"] == "100755"
    assert [file["path"] for file in lock["comfyui"]["patch"]] == ["nodes.py"]
    assert str(made.wheels) not in lock["python"]["uv_lock"] + lock["python"]["pyproject"]
    assert {name for p in lock["python"]["packages"] for name in p["hashes"]} == {
        "basis-1.0-py3-none-any.whl",
        "extra-2.0-py3-none-any.whl",
    }


def test_a_clone_is_identical_and_so_is_a_clone_of_it(made: Governed) -> None:
    for source, target in ((made.home, "c1"), (made.root / "c1", "c2")):
        found = at(made, source).json("version", "clone", "one", "--target", str(made.root / target))
        assert found["identical"]
        assert found["differences"] == []
        clone = at(made, made.root / target)
        assert problems(clone) == problems(made)
        clone.gov("version", "create", "one").ok()
        assert lock_of(made.root / target).read_bytes() == lock_of(made.home).read_bytes()
    nodes = made.root / "c2" / "ComfyUI" / "custom_nodes" / "alpha"
    assert (nodes / "new file.bin").read_bytes() == b"\xff\x00new"
    assert not (nodes / "kept.txt").exists()
    assert not (nodes / "cache").exists()
    assert (made.root / "c2" / "models" / "loras" / "small.safetensors.bin").read_bytes() == MODEL
    assert (made.root / "c2" / "ComfyUI" / "nodes.py").read_bytes().endswith(b"# mine\r\n")
    paths = (made.root / "c2" / "extra_model_paths.yaml").read_text()
    assert str(made.root / "c2" / "models") in paths


def test_a_clone_lives_on(made: Governed) -> None:
    """It starts, and takes a change of its own, with its own wheels."""
    target = made.root / "living"
    made.gov("version", "clone", "one", "--target", str(target)).ok()
    clone = at(made, target)
    made.wheel("further", "1.0")
    shutil.copy(made.wheels / "further-1.0-py3-none-any.whl", target / "wheels")
    pack = make_pack(made.root / "packs" / "beta", "further\n")
    clone.gov("node", "add", str(pack)).ok()
    txid = clone.json("tx", "run", "beta")["transaction"]["txid"]
    clone.gov("tx", "promote", txid).ok()
    result = clone.gov("version", "verify", str(lock_of(made.home)))
    result.failed(3, "package  further: + 1.0", "node     beta: + ")
    clone.gov("rollback", "1").ok()
    clone.gov("version", "verify", str(lock_of(made.home))).ok()


def test_from_a_lock_alone_with_nothing_but_caches(made: Governed, tmp_path: Path) -> None:
    lock = tmp_path / "given.json"
    shutil.copy(lock_of(made.home), lock)
    words = ("version", "clone", "--lock", str(lock), "--target", str(made.root / "alone"), "--offline")
    found = made.json(*words, "--skip-models")
    assert found["identical"]
    assert found["models"] == {"skipped": 1}


def test_another_cache_needs_the_wheels(made: Governed, tmp_path: Path) -> None:
    lock = tmp_path / "given.json"
    shutil.copy(lock_of(made.home), lock)
    other = Governed(tmp_path, {"COMFY_HOME": str(tmp_path / "none")})
    target = tmp_path / "deep" / "er" / "clone"
    bare = ("version", "clone", "--lock", str(lock), "--target", str(target))
    words = (*bare, "--skip-models")
    other.gov(*words).failed(2, "wheels that no index has are not here", "extra-2.0-py3-none-any.whl")
    other.gov(*bare, "--wheels-dir", str(made.wheels)).failed(2, "1 of 1 models could not be had", "no source is known")
    assert not (tmp_path / "deep").exists()
    assert other.json(*words, "--wheels-dir", str(made.wheels))["identical"]


def test_a_target_that_is_there_is_refused(made: Governed, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for name, problem in (("mine", "is not empty"), ("mine/file", "is not empty"), ("link", "is a link")):
        made.gov("version", "clone", "one", "--target", str(tmp_path / name)).failed(1, problem)
    made.gov("version", "clone", "one", "--target", str(made.home / "inside")).failed(2, "inside the home")
    made.gov("version", "clone", "one", "--target", str(tmp_path / "empty")).ok()
    made.gov("version", "clone", "none", "--target", str(tmp_path / "new")).failed(2, "has no version `none`")


@pytest.mark.parametrize("moment", ["clone.objects", "clone.code", "clone.environment", "clone.proven", "clone.named"])
def test_a_kill_leaves_no_half_target(made: Governed, tmp_path: Path, moment: str) -> None:
    target = tmp_path / "clone"
    words = ("version", "clone", "one", "--target", str(target))
    assert Governed(made.root, {"COMFYGOV_FAULT": f"kill@{moment}"}).gov(*words).exit_code == -9
    if moment == "clone.named":
        at(made, target).gov("version", "verify", str(lock_of(made.home))).ok()
        return
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    made.gov(*words).ok()
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]


def test_drift_is_no_version(made: Governed, tmp_path: Path) -> None:
    made.gov("version", "clone", "one", "--target", str(tmp_path / "clone")).ok()
    clone = at(made, tmp_path / "clone")
    (tmp_path / "clone" / "models" / "loras" / "small.safetensors.bin").unlink()
    (tmp_path / "clone" / "models" / "loras" / "small.safetensors.bin").write_bytes(b"other")
    clone.gov("version", "create", "two").failed(3, "is not what")
    (tmp_path / "clone" / "models" / "loras" / "small.safetensors.bin").unlink()
    git(tmp_path / "clone" / "ComfyUI" / "custom_nodes" / "alpha", "checkout", "-q", "-f", "HEAD~1")
    clone.gov("version", "create", "two").failed(3, "the disk is not what head says")


def _with(change: Any) -> Any:
    def edited(lock: dict[str, Any]) -> dict[str, Any]:
        change(lock)
        return lock

    return edited


HOSTILE = {
    "digest": lambda lock: lock["comfyui"].update(commit="0" * 40),
    "newer": lambda lock: lock.update(schema_version=99),
    "node": lambda lock: lock["custom_nodes"][0].update(name="../../etc"),
    "twice": lambda lock: lock["custom_nodes"].append(lock["custom_nodes"][0]),
    "option": lambda lock: lock["custom_nodes"][0].update(repo="--upload-pack=touch x"),
    "helper": lambda lock: lock["custom_nodes"][0].update(repo="ext::sh -c touch x"),
    "patch": lambda lock: lock["custom_nodes"][0]["patch"][0].update(path="../out"),
    "hooks": lambda lock: lock["custom_nodes"][0]["patch"][0].update(path=".git/hooks/post-checkout"),
    "model": lambda lock: lock["models"][0].update(target_path="../../outside"),
    "size": lambda lock: lock["models"][0].update(size=-1),
    "build": lambda lock: lock["python"].update(pyproject="[build-system]\n" + lock["python"]["pyproject"]),
    "folder": lambda lock: lock["python"].update(uv_lock=lock["python"]["uv_lock"].replace('"wheels', '"/etc')),
    "wheel": lambda lock: lock["python"].update(uv_lock=lock["python"]["uv_lock"].replace("wheels/", "wheels/../")),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_lock_is_refused_before_anything_is_written(made: Governed, tmp_path: Path, name: str) -> None:
    import msgspec

    from comfygov.model.version import VersionLock
    from comfygov.versions import lockfile

    lock = _with(HOSTILE[name])(json.loads(lock_of(made.home).read_bytes()))
    if name not in ("digest", "newer"):
        lock["digest"] = lockfile.digest_of(msgspec.convert(lock, VersionLock))
    (tmp_path / "bad.json").write_text(json.dumps(lock))
    target = tmp_path / "clone"
    ran = made.gov("version", "clone", "--lock", str(tmp_path / "bad.json"), "--target", str(target))
    ran.failed(1 if name == "newer" else 2)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": "1"}', "[" * 100_000, "\xff"])
def test_a_damaged_lock_is_named(made: Governed, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_bytes(text.encode("latin-1"))
    ran = made.gov("version", "clone", "--lock", str(tmp_path / "bad.json"), "--target", str(tmp_path / "clone"))
    ran.failed(2, "is no lock that can be used")


def test_every_command_judges_a_lock(made: Governed, tmp_path: Path) -> None:
    import msgspec

    from comfygov.model.version import VersionLock
    from comfygov.versions import lockfile

    lock = json.loads(lock_of(made.home).read_bytes())
    lock["custom_nodes"][0]["name"] = "../../etc"
    lock["digest"] = lockfile.digest_of(msgspec.convert(lock, VersionLock))
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(lock))
    for words in (("show", str(bad)), ("diff", "one", str(bad)), ("diff", str(bad), "one"), ("verify", str(bad))):
        made.gov("version", *words).failed(2, "cannot be the name of a pack")
        made.gov("--json", "version", *words).failed(2)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


def test_versions_are_listed_shown_and_compared(made: Governed, tmp_path: Path) -> None:
    assert [row["name"] for row in made.json("version", "list")["versions"]] == ["one"]
    shown = made.gov("version", "show", "one").ok().stdout
    assert "pack     alpha" in shown
    assert "with 5 edited files" in shown
    lock = json.loads(lock_of(made.home).read_bytes())
    assert made.json("version", "show", "one")["digest"] == lock["digest"]
    made.gov("version", "diff", "one", str(lock_of(made.home))).ok()


def test_a_name_means_one_state(made: Governed, tmp_path: Path) -> None:
    made.gov("version", "clone", "one", "--target", str(tmp_path / "clone")).ok()
    clone = at(made, tmp_path / "clone")
    clone.gov("version", "create", "one").ok()
    (tmp_path / "clone" / "ComfyUI" / "nodes.py").write_text("# other\n")
    clone.gov("version", "create", "one").failed(1, "is another state")
    clone.gov("version", "create", "one", "--overwrite").ok()
    clone.gov("version", "create", "../out").failed(2, "cannot be the name of a version")


def test_remove_takes_what_comfygov_made(made: Governed, tmp_path: Path) -> None:
    target = tmp_path / "clone"
    made.gov("version", "clone", "one", "--target", str(target)).ok()
    (target / "notes.txt").write_text("mine")
    output = target / "ComfyUI" / "output"
    output.mkdir(exist_ok=True)
    (output / "picture.png").write_bytes(b"mine")
    words = ("version", "remove", "--target", str(target))
    made.gov(*words).failed(2, "would be removed", "--yes")
    would = made.gov(*words, "--dry-run").ok().stdout
    assert "picture.png: yours" in would
    assert (target / "config.toml").exists()
    made.gov(*words, "--yes").ok()
    left = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file() or path.is_symlink())
    nodes = "ComfyUI/custom_nodes/alpha"
    edits = [f"{nodes}/{name}" for name in ("cache/big", "inner/__init__.py", "link", "new file.bin", "run.sh")]
    mine = ["ComfyUI/nodes.py", "ComfyUI/output/picture.png", "notes.txt"]
    assert left == sorted([*edits, *mine, "models/loras/small.safetensors.bin", "models/spec.yml"][1:])
    made.gov(*words, "--yes").failed(2, "no governed home")


@pytest.mark.parametrize("count", [1, 4, 8, 10, 11])
def test_a_removal_that_was_killed_takes_nothing_of_yours(governed: Governed, count: int) -> None:
    output = governed.home / "ComfyUI" / "output" / "mine.png"
    output.parent.mkdir(exist_ok=True)
    output.write_text("mine")
    words = ("version", "remove", "--target", str(governed.home), "--yes")
    Governed(governed.root, {"COMFYGOV_FAULT": f"kill@tree.doomed#{count}"}).gov(*words)
    governed.gov(*words)
    assert output.read_text() == "mine"


def test_remove_leaves_nothing_of_a_clean_clone(governed: Governed) -> None:
    governed.gov("version", "create", "clean").ok()
    target = governed.root / "clone"
    governed.gov("version", "clone", "clean", "--target", str(target)).ok()
    assert governed.json("version", "remove", "--target", str(target), "--yes")["gone"]
    assert not target.exists()
    governed.gov("verify", "--deep").ok()
    (governed.root / "link").symlink_to(governed.home)
    for place in ("link", "user", "/", "packs"):
        ran = governed.gov("version", "remove", "--target", str(governed.root / place), "--yes")
        assert ran.exit_code == 2, ran
    governed.gov("verify", "--deep").ok()
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    governed.gov("version", "remove", "--target", str(governed.home), "--yes").failed(1, "runs (pid")
    governed.gov("stop").ok()


def test_a_bundle_is_all_that_a_clone_needs(governed: Governed, tmp_path: Path) -> None:
    """Cloned with other caches, and with everything gone that the version was made from."""
    governed.wheel("extra", "2.0")
    governed.promote_pack("alpha", "extra\n")
    _add_model(governed.home)
    governed.gov("version", "create", "one").ok()
    file = governed.root / "kept" / "one.bundle"
    file.parent.mkdir()
    made = governed.json("version", "bundle", "one", "-o", str(file), "--with-models")
    assert (made["wheels"], made["repositories"], made["models"], made["missing"]) == (2, 2, 1, [])
    left = governed.root / "cache" / ".bundle.4194305.comfygov-opened"  # no process can have this number
    left.mkdir()
    governed.gov("version", "diff", "one", "one.bundle", cwd=file.parent).ok()
    governed.gov("version", "bundle", "--lock", str(file), "-o", str(governed.root / "again.bundle")).ok()
    assert not list((governed.root / "cache").glob(".bundle.*"))
    for name in ("home", "packs", "wheels", "cache", "uv-cache", "ComfyUI-source"):
        shutil.rmtree(governed.root / name)
    target = governed.root / "clone"
    cloned = governed.json("version", "clone", "--lock", str(file), "--target", str(target), "--offline")
    assert cloned["identical"]
    assert (target / "models" / "loras" / "small.safetensors.bin").read_bytes() == MODEL
    at(governed, target).gov("verify", "--deep").ok()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    governed.gov("version", "clone", "--lock", str(file), "--target", str(governed.root / "c2")).failed(2)
    assert not (governed.root / "c2").exists()
    assert sorted(path.name for path in file.parent.iterdir()) == ["one.bundle"]


def test_a_history_that_was_cut_off_is_bundled_as_it_is(governed: Governed) -> None:
    """Many people have shallow clones of ComfyUI; a pack too may come from one."""
    pack = governed.pack("alpha")
    (pack / "more.txt").write_text("second")
    commit_all(pack)
    shallow = governed.root / "shallow" / "alpha"
    git(governed.root, "clone", "-q", "--depth", "1", f"file://{pack}", str(shallow))
    governed.gov("node", "add", str(shallow)).ok()
    governed.gov("version", "create", "one").ok()
    file, target = governed.root / "one.bundle", governed.root / "clone"
    governed.gov("version", "bundle", "one", "-o", str(file)).ok()
    for name in ("home", "packs", "shallow", "cache", "ComfyUI-source"):
        shutil.rmtree(governed.root / name)
    words = ("version", "clone", "--lock", str(file), "--target", str(target), "--offline")
    assert governed.json(*words)["identical"]
    assert (target / "ComfyUI" / "custom_nodes" / "alpha" / "more.txt").read_text() == "second"
