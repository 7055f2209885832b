"""The parts of an image context: git's sums without git, packages by layers, wheels, drivers, names of images."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import zipfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfygov import __version__
from comfygov.delivery.image import compile as compiling
from comfygov.delivery.image import dockerfile, engine, fit, gittree, packages, tarball
from comfygov.delivery.image.dockerfile import Layers
from comfygov.errors import Code
from comfygov.model.delivery import Runtime
from comfygov.model.image import CodeManifest, CodeTree, ImageRecord, TorchBuild
from comfygov.model.version import LockedComfyUI, LockedPython, VersionLock
from comfygov.ops import image_handler, image_runtime
from tests.unit.conftest import Refused, Upstream

LOCK = """
[[package]]
name = "torch"
version = "2.9.0"
dependencies = [{ name = "sympy" }, { name = "nvidia-x", marker = "sys_platform == 'linux'" }]

[[package]]
name = "sympy"
version = "1"
dependencies = [{ name = "mpmath" }]

[[package]]
name = "mpmath"
version = "1"
dependencies = [{ name = "sympy" }]

[[package]]
name = "nvidia-x"
version = "13.0.2"

[[package]]
name = "kornia"
version = "1"
dependencies = [{ name = "torch" }]
"""
_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and name.lower() != ".git" and len(name.encode()) < 200
)
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)


def trees_of(repository: Path) -> tuple[tuple[CodeTree, ...], str]:
    """(the trees, the id that git itself gives them)."""
    run = ["git", "-C", str(repository)]
    listed = subprocess.check_output([*run, "ls-tree", "-r", "-z", "--full-tree", "HEAD"]).split(b"\0")
    entries = []
    for line in filter(None, listed):
        facts, _, path = line.partition(b"\t")
        mode, _, at = facts.decode().split()
        entries.append(gittree.named(os.fsdecode(path), mode, at))
    tree = subprocess.check_output([*run, "rev-parse", "HEAD^{tree}"], text=True).strip()
    commit = subprocess.check_output([*run, "rev-parse", "HEAD"], text=True).strip()
    return (CodeTree(commit, tuple(entries)),), tree


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(_paths, st.binary(max_size=50), min_size=1, max_size=8))
def test_our_sum_of_a_tree_is_gits(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    upstream = Upstream(tmp_path_factory.mktemp("tree") / "r")
    for name, content in files.items():
        path = upstream.path / name
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    upstream.commit({})
    trees, tree = trees_of(upstream.path)
    assert list(gittree.unproven(trees, tree)) == []
    wanted = gittree.expected(trees, ())
    assert gittree.differences(upstream.path, wanted, leave=frozenset({".git"})) == []


def test_every_kind_of_change_is_found(upstream: Upstream) -> None:
    upstream.path.joinpath("link").symlink_to("a.py")
    upstream.commit({"a.py": "1", "b.py": "2", "c/d.py": "3", "run": "#!/bin/sh\n"})
    (upstream.path / os.fsdecode(b"\xff")).write_text("no UTF-8")
    upstream.commit({})
    trees, tree = trees_of(upstream.path)
    assert list(gittree.unproven(trees, tree)) == []
    wanted = gittree.expected(trees, ())
    (upstream.path / "a.py").write_text("x")
    (upstream.path / "b.py").unlink()
    (upstream.path / "run").chmod(0o755)
    (upstream.path / "link").unlink()
    (upstream.path / "link").symlink_to("b.py")
    (upstream.path / "c" / "new.py").write_text("")
    (upstream.path / "c" / "__pycache__").mkdir()
    (upstream.path / "c" / "__pycache__" / "d.cpython-311.pyc").write_text("")
    (upstream.path / "c" / "__pycache__" / "d.py").write_text("")
    assert gittree.differences(upstream.path, wanted, leave=frozenset({".git"})) == [
        "a.py is not as its commit has it",
        "b.py is missing",
        "link is not as its commit has it",
        "run is of another kind",
        "c/new.py belongs to no commit",
        "c/__pycache__/d.py belongs to no commit",
    ]


def test_a_list_of_files_that_is_not_the_trees_proves_nothing(upstream: Upstream) -> None:
    upstream.commit({"a.py": "1", "b.py": "2"})
    trees, tree = trees_of(upstream.path)
    cut = (CodeTree(trees[0].commit, trees[0].entries[:1]),)
    assert list(gittree.unproven(cut, tree))
    assert list(gittree.unproven((), tree))
    other = (*trees, CodeTree("0" * 40, (), "sub", ""))
    assert list(gittree.unproven(other, tree))


def test_a_tar_is_the_same_bytes_whatever_the_disk_says(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        (folder / "x" / ".git").mkdir(parents=True)
        (folder / "x" / ".git" / "HEAD").write_text(str(number))
        for name in sorted(("b", "a", "é", "x/y" + "z" * 150), reverse=bool(number)):
            (folder / name).write_text(name)
            os.utime(folder / name, (number, number))
        (folder / "a").chmod(0o600 if number else 0o640)
        tarball.write(folder, tmp_path / f"{number}.tar")
        made.append((tmp_path / f"{number}.tar").read_bytes())
    assert made[0] == made[1]
    assert b".git/HEAD" not in made[0]


def test_torchs_layer_holds_torch_and_what_it_needs() -> None:
    assert packages.torch_family(LOCK) == {"torch", "sympy", "mpmath", "nvidia-x"}
    assert packages.torch_family('[[package]]\nname = "basis"\nversion = "1"\n') == frozenset()


@pytest.mark.parametrize(
    ("versions", "cuda"),
    [
        ({"torch": "2.9.0+cu128"}, "12.8"),
        ({"torch": "2.9.0+cpu", "nvidia-cuda-runtime-cu12": "12.8.90"}, ""),
        ({"torch": "2.11.0", "cuda-toolkit": "13.0.2"}, "13.0"),
        ({"torch": "2.8.0", "nvidia-cuda-runtime-cu12": "12.8.90"}, "12.8"),
        ({"torch": "2.9.0"}, ""),
    ],
)
def test_the_cuda_of_a_torch(versions: dict[str, str], cuda: str) -> None:
    document = {"packages": [{"name": name, "version": version} for name, version in versions.items()]}
    assert packages.torch_build(document) == TorchBuild(versions["torch"], cuda)


def lock_with(name: str) -> VersionLock:
    python = LockedPython("3.12.1", "==3.12.*", "linux-x86_64", (), (), (), "", "")
    return VersionLock(1, name, "sha256:0", LockedComfyUI("/r", "c" * 40, "d" * 40), python)


def test_a_torch_for_amd_runs_on_the_gpu(tmp_path: Path) -> None:
    torch = packages.torch_build({"packages": [{"name": "torch", "version": "2.9.0+rocm6.4"}]})
    assert torch == TorchBuild("2.9.0+rocm6.4", rocm="6.4")
    record = msgspec.structs.replace(record_with(""), torch=torch)
    text = image_runtime.runtime(lock_with("one"), record, CodeManifest(1, {"ComfyUI": ()}))
    assert msgspec.json.decode(text, type=Runtime).extra_args == ()
    assert fit.misfit(record, None, tmp_path) == ""
    assert "needs an AMD GPU with a driver for ROCm 6.4" in fit.misfit(record, "13.0", tmp_path / "kfd")


def record_with(cuda: str) -> ImageRecord:
    return ImageRecord(1, "v", "sha256:0", __version__, "base", "uv", "3.12", TorchBuild("2.11.0", cuda))


@pytest.mark.parametrize(
    ("cuda", "driver", "words"),
    [
        ("", None, ""),
        ("13.0", "13.1", ""),
        ("12.8", "12.4", ""),
        ("12.8", "13.0", ""),
        ("13.0", "12.8", "knows CUDA 12.8 at most"),
        ("13.0", None, "580 or newer), and there is no NVIDIA driver"),
    ],
)
def test_a_driver_fits_or_one_sentence_says_why_not(cuda: str, driver: str | None, words: str) -> None:
    said = fit.misfit(record_with(cuda), driver)
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize("name", ["a:b", "localhost/x:1", "ghcr.io/a/b:1@sha256:" + "0" * 64, "host:5000/a/b:t", "a"])
def test_names_of_images_are_taken(name: str) -> None:
    engine.refuse_odd_reference(name)


@pytest.mark.parametrize("name", ["", "--privileged", "a b", "a:b:c", "$(id)", "a@sha256:0", "x\ny", "é", "a" * 600])
def test_what_is_no_name_of_an_image_is_refused(name: str, refused: Refused) -> None:
    with refused(Code.USAGE):
        engine.refuse_odd_reference(name)


@pytest.mark.parametrize(
    ("image", "name"), [("a:1", "a"), ("h:5000/a", "h:5000/a"), ("h:5000/a/b:1", "h:5000/a/b"), ("a@sha256:0", "a")]
)
def test_a_name_without_its_tag(image: str, name: str) -> None:
    assert engine.without_tag(image) == name


def lines_of(dockerfile: str, words: str) -> str:
    """The instruction with these words in it."""
    return next(one for one in dockerfile.split("\nRUN ") if words in one)


def test_what_builds_from_source_gets_no_secret_and_no_cache_of_others() -> None:
    layers = Layers("a", "b", "c", "d", "e", {}, {}, "f", no_build=True)
    cautious = dockerfile.render(record_with(""), layers)
    daring = dockerfile.render(record_with(""), dataclasses.replace(layers, no_build=False))
    for folder in ("python/torch", "python/all"):
        given = lines_of(cautious, f"source={folder},")
        assert "type=secret" in given
        assert "id=comfygov-packages" in given
        assert "--no-build" in given
        given = lines_of(daring, f"source={folder},")
        assert "type=secret" not in given
        assert "type=cache" not in given
        assert "--no-cache" in given
    for text in (cautious, daring):
        assert "id=comfygov-handler" in lines_of(text, "source=handler/needs,")
        assert "--no-build" in lines_of(text, "source=handler/needs,")


def test_an_image_that_is_started_in_another_way_is_found() -> None:
    """What the Dockerfile says of the start is what is asked for, and every change of it has a line."""
    text = dockerfile.render(record_with(""), Layers("a", "b", "c", "d", "e", {}, {}, "f", no_build=True))
    variables = next(one for one in text.split("\nENV ")[1:]).split("\nUSER ")[0].replace("\\\n", "").split()
    start = msgspec.json.decode(text.rpartition("\nENTRYPOINT ")[2])
    users = [line.removeprefix("USER ") for line in text.splitlines() if line.startswith("USER ")]
    config = {"Env": ["GPG_KEY=x", *variables], "User": users[-1], "Entrypoint": start}
    assert list(dockerfile.start_problems(config)) == []
    for changed, words in (
        ({"User": "0"}, "as the user `0`"),
        ({"Entrypoint": ["/bin/sh"]}, "first program is `/bin/sh`"),
        ({"Env": [*variables, "LD_PRELOAD=/x.so"]}, "LD_PRELOAD loads code"),
        ({"Env": [*variables, "HOME=/root"]}, "HOME is `/root`"),
    ):
        (line,) = dockerfile.start_problems({**config, **changed})
        assert words in line
    assert len(list(dockerfile.start_problems({}))) == 2 + len(dockerfile.ENVIRONMENT)


def test_what_is_large_lies_below_what_changes() -> None:
    pack = dockerfile.Pack("ComfyUI/custom_nodes/p", "g")
    layers = Layers("a", "b", "c", "d", "e", {"p": pack}, {"m": "h"}, "f", no_build=True)
    text = dockerfile.render(record_with(""), layers)
    places = ("python/torch", "models/m", "python/all", "handler/needs", "handler/comfygov", "comfyui", "packs/p")
    found = [text.index(f"source={place},") for place in places]
    assert found == sorted(found)


def test_comfygov_becomes_a_wheel_that_is_the_same_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image_handler.put(tmp_path / name, extras=name == "a")
    wheels = [next((tmp_path / name / "comfygov").iterdir()) for name in ("a", "b")]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as archive:
        names = archive.namelist()
        metadata = archive.read(f"comfygov-{__version__}.dist-info/METADATA").decode()
    assert "comfygov/demo/standin/main.py" in names
    assert not [name for name in names if "__pycache__" in name]
    assert f"\nVersion: {__version__}\n" in metadata
    assert "Requires-Dist: click" in metadata
    assert "--hash=sha256:" in (tmp_path / "b" / "needs" / "requirements.txt").read_text()


def test_bytecode_is_made_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "template.py").write_text("{{ no python }}\n")
    monkeypatch.setattr("sys.argv", ["compile.py", str(tmp_path)])
    compiling.main()
    made = [path.name for path in (tmp_path / "__pycache__").iterdir()]
    assert [name.partition(".")[0] for name in made] == ["good"]
    before = (tmp_path / "__pycache__" / made[0]).stat().st_mtime_ns
    assert [Path(path).name for path in compiling.missing(str(tmp_path))] == ["template.py"]
    compiling.main()
    assert (tmp_path / "__pycache__" / made[0]).stat().st_mtime_ns == before
