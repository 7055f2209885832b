"""`gov version create` without a home, as scripts/create_version.py of the first users' manual asks for it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from comfygov.ports.uv import find_binary
from tests.kit.repos import PACK, git, make_comfyui

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.governed import Governed


@pytest.fixture
def sources(bare: Governed) -> Governed:
    """Repositories, wheels, a folder that is no repository, and an environment with other versions than asked for."""
    for name, version in (("basis", "1.0"), ("extra", "1.0"), ("extra", "2.0"), ("more", "1.0")):
        bare.wheel(name, version)
    make_comfyui(bare.comfyui_source, "basis\n")
    bare.pack("alpha", "extra>=2\n")
    git(bare.root / "packs" / "alpha", "tag", "v1")
    loose = bare.root / "loose"
    loose.mkdir()
    (loose / "__init__.py").write_text(PACK % {"name": "loose"})
    (loose / "data.bin").write_bytes(b"\xff\x00")
    (loose / "run.sh").write_bytes(b"echo\r\n")
    (loose / ".gitignore").write_text("*.bin\n")
    (bare.root / "requirements.txt").write_text("-r further.txt\n")
    (bare.root / "further.txt").write_text("more\n")
    return bare


def create(sources: Governed, *options: str) -> tuple[str, ...]:
    wheels = ("--find-links", str(sources.wheels), "--index-url", "none")
    return ("version", "create", "--name", "v", "--comfy-repo", str(sources.comfyui_source), *wheels, *options)


def test_from_repositories_a_folder_and_requirements(sources: Governed) -> None:
    nodes = (f"repo={sources.root}/packs/alpha,name=alpha,ref=v1", f"path={sources.root}/loose,name=loose")
    options = [word for node in nodes for word in ("--custom-node", node)]
    words = create(sources, *options, "--requirements", "requirements.txt", "--pretty")
    made = sources.json(*words)
    lock = json.loads((sources.root / "lockfiles" / "comfy-v.lock.json").read_bytes())
    assert [(p["name"], p["version"]) for p in lock["python"]["packages"]] == [
        ("basis", "1.0"), ("extra", "2.0"), ("more", "1.0"),
    ]  # fmt: skip
    assert lock["custom_nodes"][0]["commit"] == git(sources.root / "packs" / "alpha", "rev-parse", "v1")
    assert lock["custom_nodes"][1]["repo"] == f"content:{lock['custom_nodes'][1]['tree']}"
    assert sources.json(*words)["unchanged"]
    target = sources.root / "clone"
    cloned = sources.json("version", "clone", "--lock", made["path"], "--target", str(target))
    assert cloned["identical"]
    loose = target / "ComfyUI" / "custom_nodes" / "loose"
    assert (loose / "data.bin").read_bytes() == b"\xff\x00"
    assert (loose / "run.sh").read_bytes() == b"echo\r\n"
    status = sources.gov("status", "--home", str(target)).ok().stdout
    assert "2 enabled of 2 registered" in status


def test_edits_of_a_checkout_are_in_it(sources: Governed) -> None:
    (sources.comfyui_source / "nodes.py").write_text((sources.comfyui_source / "nodes.py").read_text() + "# mine\n")
    (sources.root / "packs" / "alpha" / "new.txt").write_text("new")
    node = f"path={sources.root}/packs/alpha,name=alpha"
    made = sources.json(*create(sources, "--comfy-path", str(sources.comfyui_source), "--custom-node", node))
    lock = sources.json("version", "show", made["path"])
    assert [file["path"] for file in lock["comfyui"]["patch"]] == ["nodes.py"]
    assert [file["path"] for file in lock["custom_nodes"][0]["patch"]] == ["new.txt"]


def test_an_environment_is_frozen_as_it_is(sources: Governed) -> None:
    """Also where it is not what anybody asks for: extra 1.0, where alpha asks for 2."""
    venv = sources.root / "venv"
    uv = [find_binary(), "pip", "install", "-q", "--offline", "--no-index", "--find-links", str(sources.wheels)]
    environment = sources.environment()
    subprocess.run([find_binary(), "venv", "-q", str(venv)], check=True, env=environment)
    subprocess.run([*uv, "--python", str(venv), "extra==1.0", "basis"], check=True, env=environment)
    node = f"repo={sources.root}/packs/alpha,name=alpha"
    made = sources.json(*create(sources, "--custom-node", node, "--venv", str(venv)))
    lock = sources.json("version", "show", made["path"])
    found = {p["name"]: p["version"] for p in lock["python"]["packages"]}
    assert found == {"basis": "1.0", "extra": "1.0"}


def test_what_is_wrong_is_said(sources: Governed, tmp_path: Path) -> None:
    sources.gov(*create(sources, "--custom-node", "repo=x,nme=y")).failed(2, "is no custom node")
    sources.gov(*create(sources, "--custom-node", f"repo={sources.root}/none")).failed(2, "neither a git URL")
    sources.gov(*create(sources, "--requirements", "none.txt")).failed(2, "there is no file")
    sources.gov(*create(sources, "--comfy-ref", "none")).failed(2, "no branch, tag or commit `none`")
    alpha = f"repo={sources.root}/packs/alpha"
    sources.gov(*create(sources, "--custom-node", "name=x,path=")).failed(2, "path= is empty")
    sources.gov(*create(sources, "--custom-node", f"{alpha},name=a,name=b")).failed(2, "is no custom node", "each once")
    sources.gov(*create(sources, "--custom-node", f"{alpha},commit=v1")).failed(2, "`v1` is no commit", "say ref=")
    here = ("--comfy-path", str(sources.comfyui_source))
    sources.gov(*create(sources, *here, "--comfy-ref", "main")).failed(2, "leave one of them out")
    (sources.root / "up.txt").write_text("-r ../base.txt\n")
    sources.gov(*create(sources, "--requirements", "up.txt")).failed(4, "`-r ../base.txt`", "outside of its folder")
    secret = ("--index-url", "https://me:hidden@localhost:1/simple")
    refused = sources.gov(*create(sources, *secret)).failed(2, "holds credentials")
    assert "hidden" not in refused.stderr
    sources.gov("version", "create", "--comfy-repo", "x").failed(2, "needs one name")
    (sources.root / "odd.txt").write_text("basis==9\n")
    sources.gov(*create(sources, "--requirements", "odd.txt")).failed(4)
    assert not (sources.root / "lockfiles").exists()


def test_a_model_whose_size_nobody_knows_is_no_difference(sources: Governed) -> None:
    """The spec names a sum and a source; the file is there only in the clone."""
    data = b"weights"
    (sources.root / "w.bin").write_bytes(data)
    checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
    entry = {"name": "w", "target_path": "loras/w.bin", "checksum": checksum, "source": f"file://{sources.root}/w.bin"}
    (sources.root / "spec.yml").write_text(json.dumps({"models": [entry]}))
    made = sources.json(*create(sources, "--models-spec", "spec.yml", "--models-dir", "nowhere"))
    target = sources.root / "clone"
    found = sources.json("version", "clone", "--lock", made["path"], "--target", str(target))
    assert found["identical"], found["differences"]
    assert (target / "models" / "loras" / "w.bin").read_bytes() == data
    sources.gov("version", "create", "again", "--home", str(target)).ok()


def test_a_spec_that_is_not_there_is_no_empty_one(sources: Governed) -> None:
    sources.gov(*create(sources, "--models-spec", "typo.yml")).failed(2, "there is no file", "check --models-spec")
    assert not (sources.root / "lockfiles").exists()
