"""`gov init --comfyui-dir DIR --venv DIR`: a grown install of every kind of pack becomes a home, and is not changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comfygov.ports.comfy_api import ComfyApi, free_port
from tests.kit.governed import Governed, Ran
from tests.kit.repos import PACK, commit_all, git, make_comfyui, make_pack
from tests.kit.wheels import add_wheel


def uv(*words: str) -> None:
    binary = Path(sys.executable).parent / "uv"
    subprocess.run([binary, *words], check=True, capture_output=True, timeout=120)


def facts(root: Path) -> dict[str, str]:
    """Everything below a folder: kind, rights, time and content of each entry."""
    found = {}
    for path in sorted(root.rglob("*")):
        seen = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        times = "" if path.is_dir() else seen.st_mtime_ns
        found[str(path.relative_to(root))] = f"{oct(seen.st_mode)} {times} {content}"
    return found


@dataclass
class Install:
    """A ComfyUI that somebody made by hand: a clone, a venv, and packs of every form."""

    governed: Governed
    tree: Path
    venv: Path

    @property
    def nodes(self) -> Path:
        return self.tree / "custom_nodes"

    def put(self, *packages: str) -> None:
        wheels = ("--no-index", "--find-links", str(self.governed.wheels), "--no-deps")
        uv("pip", "install", "-q", "--python", str(self.venv / "bin" / "python"), *wheels, *packages)

    def clone(self, name: str, requirements: str | None = None, **options: Any) -> Path:
        upstream = make_pack(self.governed.root / "upstream" / name, requirements, **options)
        git(self.nodes, "clone", "-q", f"file://{upstream}", name)
        return upstream

    def adopt(self, *options: str) -> Ran:
        words = ("--find-links", str(self.governed.wheels), "--index-url", "none", *options)
        return self.governed.gov("--json", "init", "--comfyui-dir", str(self.tree), "--venv", str(self.venv), *words)

    def installed(self) -> set[str]:
        return {
            path.name.removesuffix(".dist-info") for path in self.venv.glob("lib/python3*/site-packages/*.dist-info")
        }


@pytest.fixture
def install(bare: Governed) -> Install:
    for name, version in (("basis", "1.0"), ("basis", "2.0"), ("extra", "1.0"), ("extra", "2.0"), ("tool", "1.0")):
        bare.wheel(name, version)
    source = make_comfyui(bare.root / "upstream" / "ComfyUI", "basis\n")
    git(bare.root, "clone", "-q", f"file://{source}", "my ComfyUI")
    venv = bare.root / "my venv"
    uv("venv", "-q", "--python", sys.executable, str(venv))
    made = Install(bare, bare.root / "my ComfyUI", venv)
    made.put("basis==1.0", "extra==1.0", "tool==1.0")
    return made


def folder(path: Path, name: str, files: dict[str, str] | None = None) -> Path:
    path.mkdir(parents=True)
    for file, text in {"__init__.py": PACK % {"name": name}, **(files or {})}.items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(text)
    return path


def of_every_form(install: Install) -> None:
    nodes = install.nodes
    install.clone("by-git", "extra\n")
    install.clone("dirty")
    (nodes / "dirty" / "__init__.py").write_text(PACK % {"name": "edited"})
    (nodes / "dirty" / "settings.json").write_text("{}")
    inner = make_pack(install.governed.root / "upstream" / "inner")
    around = make_pack(install.governed.root / "upstream" / "around")
    allow = ("-c", "protocol.file.allow=always")
    git(around, *allow, "submodule", "add", "-q", f"file://{inner}", "inner")
    commit_all(around)
    git(nodes, *allow, "clone", "-q", "--recurse-submodules", f"file://{around}", "around")
    hollow = make_pack(install.governed.root / "upstream" / "hollow")
    git(hollow, *allow, "submodule", "add", "-q", f"file://{inner}", "inner")
    commit_all(hollow)
    git(nodes, "clone", "-q", f"file://{hollow}", "hollow")
    archive = {
        "pyproject.toml": '[project]\nname = "archived"\nversion = "1.2.3"\n',
        ".tracking": "__init__.py\npyproject.toml\n",
    }
    folder(nodes / "archived", "archived", {**archive, "mine.json": "{}"})
    folder(nodes / "plain", "plain", {"data/big.bin": "0" * 1000, ".gitignore": "data/\n"})
    (nodes / "single.py").write_text(PACK % {"name": "single"})
    folder(nodes / "parked.disabled", "parked")
    folder(nodes / ".disabled" / "stored@1_0_0", "stored")
    install.clone("asleep")
    (nodes / "asleep").rename(nodes / "asleep.disabled")
    folder(nodes / "odd name", "odd_name")
    folder(nodes / "empty" / "inside", "inside")


LOADED = {"by_git", "around", "hollow", "archived", "plain", "single"}
REGISTERED = {"by-git", "dirty", "around", "hollow", "archived", "plain", "single.py"}


def running(home: Governed) -> set[str]:
    port = free_port()
    home.gov("run", "--detach", "--", "--port", str(port)).ok()
    try:
        return set(ComfyApi("127.0.0.1", port).object_info())
    finally:
        home.gov("stop").ok()


def test_every_form_of_a_pack_is_taken_and_nothing_is_changed(install: Install) -> None:
    home = install.governed
    of_every_form(install)
    before = facts(install.tree), facts(install.venv)
    result = install.adopt().ok()
    after = facts(install.tree), facts(install.venv)
    assert set(after[0].items()) - set(before[0].items()) == {(".git/comfygov-home", after[0][".git/comfygov-home"])}, (
        "the mark is the one thing that is written, and said"
    )
    assert before[0].keys() <= after[0].keys()
    assert after[1] == before[1]
    plugins = {plugin["id"]: plugin for plugin in home.json("node", "list")["plugins"]}
    assert {name for name, plugin in plugins.items() if plugin["enabled"]} == REGISTERED
    assert {name: plugins[name]["place"] for name in ("parked", "stored", "asleep")} == {
        "parked": "parked.disabled", "stored": ".disabled/stored@1_0_0", "asleep": "asleep.disabled",
    }  # fmt: skip
    assert home.installed() == install.installed() == {"basis-1.0", "extra-1.0", "tool-1.0"}
    found = {(finding["kind"], finding["subject"]) for finding in result.envelope["findings"]}
    assert {("edits", "dirty"), ("node", "odd name"), ("node", "empty"), ("node", "hollow")} <= found
    assert ("written", str(install.tree / ".git" / "comfygov-home")) in found
    assert LOADED | {"edited", "odd_name"} <= running(home), "production loads what it loaded, edits included"
    assert install.adopt().ok().data["created"] is False


def test_an_adopted_pack_lives_on(install: Install) -> None:
    home = install.governed
    upstream = install.clone("by-git", "extra\n")
    folder(install.nodes / "plain", "plain")
    (install.nodes / "single.py").write_text(PACK % {"name": "single"})
    folder(install.nodes / "parked.disabled", "parked")
    install.adopt().ok()
    (upstream / "__init__.py").write_text(PACK % {"name": "newer"})
    (upstream / "requirements.txt").write_text("extra>=2\n")
    commit_all(upstream)
    assert [row["name"] for row in home.json("outdated")["packs"] if row["outdated"]] == ["by-git"]
    txid = home.json("tx", "run", "by-git", "parked")["transaction"]["txid"]
    home.gov("tx", "promote", txid).ok()
    assert home.installed() == {"basis-1.0", "extra-2.0", "tool-1.0"}
    assert {"newer", "parked", "plain", "single"} <= running(home)
    assert (install.nodes / "parked.disabled" / "__init__.py").exists()
    home.gov("rollback", "1").ok()
    assert home.installed() == install.installed()
    assert "newer" not in running(home)
    home.gov("node", "remove", "plain", "--purge-code").ok()
    home.gov("node", "remove", "single.py", "--purge-code").ok()
    assert not (install.nodes / "plain").exists()
    assert not (install.nodes / "single.py").exists()
    home.gov("rollback", "1").ok()
    assert {"plain", "single", "by_git"} <= running(home)
    home.gov("verify", "--deep").ok()
    shutil.rmtree(home.home / "state" / "code")
    home.gov("sync").ok()
    home.gov("verify", "--deep").ok()


@pytest.mark.slow
def test_a_version_of_an_adopted_install_is_cloned_and_proven(install: Install) -> None:
    home = install.governed
    of_every_form(install)
    install.adopt().ok()
    (install.nodes / "single.py").write_text(PACK % {"name": "single_edited"})
    home.gov("version", "create", "one").ok()
    target = home.root / "clone"
    assert home.json("version", "clone", "one", "--target", str(target))["identical"]
    clone = Governed(home.root, {"COMFY_HOME": str(target)})
    assert {"by_git", "edited", "plain", "archived", "single_edited"} <= running(clone)
    clone.gov("version", "verify", str(home.home / "lockfiles" / "comfy-one.lock.json")).ok()
    before = facts(install.nodes)
    home.gov("version", "remove", "--target", str(home.home), "--yes").ok()
    assert facts(install.nodes) == before, "the install is not what comfygov made"
    assert (install.tree / "main.py").exists()


def test_an_environment_that_does_not_fit_itself_is_locked_as_it_is(install: Install) -> None:
    home = install.governed
    home.wheel("needs-newer", "1.0", ("basis>=2",))
    home.wheel("needs-absent", "1.0", ("nowhere", "lost>=1"))
    install.put("needs-newer", "needs-absent")
    install.clone("greedy", "extra>=2\nunknown\ntool\n")
    result = install.adopt().ok()
    assert home.installed() == install.installed()
    said = json.dumps(result.envelope["findings"])
    for words in ("needs basis>=2", "needs nowhere", "asks for extra>=2", "asks for unknown"):
        assert words in said
    assert "greedy" in running(home)
    ran = home.gov("tx", "run", "greedy")
    assert ran.exit_code == 4, ran


def test_packages_that_no_index_has_are_packed_again(install: Install, tmp_path: Path) -> None:
    home = install.governed
    program = {"local_only-3.1.dist-info/entry_points.txt": "[console_scripts]\nlo = local_only:x\n"}
    own = add_wheel(tmp_path / "own", "local-only", "3.1", modules={"local_only/__init__.py": "x = 1\n", **program})
    gone = add_wheel(home.wheels, "vanished", "0.9")
    install.put(str(own), "vanished==0.9")
    own.unlink()
    gone.unlink()
    result = install.adopt().ok()
    assert home.installed() == install.installed()
    said = {finding["subject"]: finding["problem"] for finding in result.envelope["findings"]}
    assert "a wheel was made" in said["local-only==3.1"]
    assert "is in no index" in said["vanished==0.9"]
    assert (home.home / ".venv-prod" / "bin" / "lo").exists()
    home.gov("version", "create", "one").ok()
    assert home.json("version", "clone", "one", "--target", str(home.root / "clone"))["identical"]


def test_what_of_an_environment_cannot_be_locked_is_said(install: Install) -> None:
    """An editable install, packages over each other, files of nobody, and an edited file."""
    home = install.governed
    install.put("basis==1.0")
    for name, text in (("opencv-python", "plain = 1\n"), ("opencv-python-headless", "headless = 11\n")):
        home.wheel(name, "4.0", modules={"cv2/__init__.py": text})
    home.wheel("editable", "1.0")
    install.put("opencv-python", "editable")
    install.put("opencv-python-headless")
    site = next(install.venv.glob("lib/python3*/site-packages"))
    direct = {"url": f"file://{home.root}/editable", "dir_info": {"editable": True}}
    (site / "editable-1.0.dist-info" / "direct_url.json").write_text(json.dumps(direct))
    (site / "dropped_in.py").write_text("")
    (site / "tool" / "__init__.py").write_text("edited = True\n" * 10)
    result = install.adopt().ok()
    assert install.installed() - home.installed() == {"editable-1.0", "opencv_python-4.0"}
    said = [f"{finding['subject']} {finding['problem']}" for finding in result.envelope["findings"]]
    for words in ("editable==1.0 is installed from the folder", "opencv-python==4.0 and opencv-python-headless"):
        assert any(words in line for line in said), (words, said)
    for words in ("dropped_in.py lies", "tool 1.0: tool/__init__.py has"):
        assert any(words in line for line in said), (words, said)


def test_what_cannot_be_adopted_is_said(install: Install) -> None:
    home = install.governed
    (install.tree / ".git").rename(install.tree / "not-git")
    install.adopt().failed(1, "is not a git checkout")
    assert not home.home.exists()
    (install.tree / "not-git").rename(install.tree / ".git")
    install.adopt("--require", "tool").failed(2, "is taken as it is")
    assert not home.home.exists()
