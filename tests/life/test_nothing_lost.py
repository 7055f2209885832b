"""What reviews found to lose work, to go to production unasked, or to say the wrong thing: each stays mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from comfygov.ports import landlock
from comfygov.ports.comfy_api import free_port
from tests.kit.governed import Governed
from tests.kit.repos import commit_all, git, make_comfyui, make_pack, make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator


def folder_of(governed: Governed, name: str) -> Path:
    return governed.home / "ComfyUI" / "custom_nodes" / name


def test_an_approval_is_for_the_changes_that_were_shown(governed: Governed) -> None:
    governed.wheel("numpy", "1.0")
    governed.wheel("torch", "1.0")
    governed.gov("node", "add", str(governed.pack("one", "numpy\nmore\n"))).ok()
    governed.wheel("more", "1.0")
    governed.gov("tx", "run", "one").ok()
    governed.wheel("more", "2.0", ("torch",))
    governed.promote_pack("two")
    record = json.loads((governed.home / "state" / "transactions" / "tx0001.json").read_text())
    assert [p["name"] for p in record["core_impact"]["added"]] == ["numpy"]
    (governed.wheels / "more-1.0-py3-none-any.whl").unlink()
    approved = ("tx", "promote", "1", "--approve-core", "--reason", "numpy is fine")
    governed.gov(*approved).failed(1, "+ torch 1.0", "--approve-core")
    assert governed.installed() == {"basis-1.0"}
    governed.gov(*approved).ok()


def test_purge_keeps_stashes_and_local_commits(governed: Governed) -> None:
    for name in ("stashed", "committed"):
        governed.promote_pack(name)
    (folder_of(governed, "stashed") / "__init__.py").write_text("mine")
    git(folder_of(governed, "stashed"), "stash")
    git(folder_of(governed, "committed"), "commit", "--allow-empty", "-m", "mine")
    git(folder_of(governed, "committed"), "branch", "mine")
    git(folder_of(governed, "committed"), "checkout", "-q", "--detach", "HEAD~1")
    for name in ("stashed", "committed"):
        removed = governed.json("node", "remove", name, "--purge-code")
        kept = governed.home / removed["rescued"]
        assert removed["rescued"], name
        assert not folder_of(governed, name).exists()
        assert git(kept, "stash", "list") if name == "stashed" else git(kept, "rev-parse", "mine")


def test_purge_of_a_clean_pack_deletes_it(governed: Governed) -> None:
    governed.promote_pack("clean")
    assert governed.json("node", "remove", "clean", "--purge-code")["rescued"] == ""
    assert not folder_of(governed, "clean").exists()


def test_purge_under_a_running_comfyui_needs_a_restart(governed: Governed) -> None:
    governed.promote_pack("loaded")
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    try:
        pid = governed.json("status")["running"]["pid"]
        governed.gov("node", "remove", "loaded", "--purge-code").failed(1, "replace code under it", "--restart")
        assert folder_of(governed, "loaded").is_dir()
        governed.gov("node", "remove", "loaded", "--purge-code", "--restart").ok()
        assert governed.json("status")["running"]["pid"] != pid
    finally:
        governed.gov("stop").ok()


def test_purge_of_a_pack_that_runs_but_is_disabled_needs_a_restart(governed: Governed) -> None:
    governed.promote_pack("loaded")
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    try:
        governed.gov("node", "disable", "loaded").ok()
        governed.gov("node", "remove", "loaded", "--purge-code").failed(1, "replace code under it")
        assert folder_of(governed, "loaded").is_dir()
    finally:
        governed.gov("stop").ok()


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_edits_that_git_was_told_not_to_see_are_edits(governed: Governed, flag: str) -> None:
    governed.promote_pack("hidden")
    edited = folder_of(governed, "hidden") / "__init__.py"
    git(edited.parent, "update-index", flag, "__init__.py")
    edited.write_text(edited.read_text() + "# mine\n")
    pack = governed.root / "packs" / "hidden"
    (pack / "__init__.py").write_text((pack / "__init__.py").read_text() + "# theirs\n")
    commit_all(pack)
    governed.gov("tx", "run", "hidden", "--ref", "main").ok()
    governed.gov("tx", "promote", "2").failed(1, "__init__.py (edited)")
    removed = governed.json("node", "remove", "hidden", "--purge-code")
    assert (governed.home / removed["rescued"] / "__init__.py").read_text().endswith("# mine\n")


def test_purge_keeps_files_in_a_submodule_folder_that_lost_its_git(governed: Governed) -> None:
    inner = make_repository(governed.root / "inner", {"a.txt": "1"})
    pack = governed.pack("outer")
    git(pack, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "lib")
    commit_all(pack)
    governed.gov("node", "add", str(pack)).ok()
    lib = folder_of(governed, "outer") / "lib"
    subprocess.run(["rm", "-rf", str(lib / ".git")], check=True)
    (lib / "mine.txt").write_text("mine")
    removed = governed.json("node", "remove", "outer", "--purge-code")
    assert (governed.home / removed["rescued"] / "lib" / "mine.txt").read_text() == "mine"


def test_a_repair_that_fails_leaves_the_environment(governed: Governed) -> None:
    governed.promote_pack("one")
    module = next((governed.home / ".venv-prod" / "lib").glob("python3*/site-packages/basis/__init__.py"))
    module.write_text("longer than it was, and still there\n")
    (governed.wheels / "basis-1.0-py3-none-any.whl").rename(governed.root / "aside.whl")
    (governed.root / "uv-cache").rename(governed.root / "uv-cache-aside")
    assert governed.gov("sync").exit_code != 0
    assert module.read_text().startswith("longer")
    (governed.root / "aside.whl").rename(governed.wheels / "basis-1.0-py3-none-any.whl")
    governed.gov("sync").ok()
    assert "__version__" in module.read_text()


def test_an_empty_record_of_another_command_fails_nothing(governed: Governed) -> None:
    (governed.home / "state" / "transactions").mkdir(exist_ok=True)
    (governed.home / "state" / "transactions" / "tx0099.json").touch()
    governed.promote_pack("one")
    assert governed.json("tx", "list")["transactions"][0]["txid"] == "tx0099"


def test_what_was_just_made_is_kept_whatever_the_retention(governed: Governed) -> None:
    config = governed.home / "config.toml"
    config.write_text(config.read_text() + "\n[rollback]\nsnapshot_retention = 1\n")
    made = governed.json("snapshot", "create")
    governed.gov("snapshot", "inspect", made["id"]).ok()
    governed.promote_pack("one")
    pre = governed.json("tx", "inspect", "1")["transaction"]["promotion"]["snapshot_pre"]
    governed.gov("rollback", pre).ok()
    config.write_text(config.read_text().replace("retention = 1", "retention = -1"))
    governed.gov("status").failed(2, "at least 1")


DAEMON = """
import subprocess
subprocess.Popen(["sleep", "98765"], env={}, start_new_session=True, stdout=subprocess.DEVNULL)
"""


def test_what_install_py_leaves_running_ends_with_the_trial(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("installer", files={"install.py": DAEMON}))).ok()
    detail = governed.json("tx", "run", "installer")
    assert detail["transaction"]["observed"]["install_script"] == "exit code 0"
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "98765"]]


def test_an_install_py_that_fails_is_a_gate(governed: Governed) -> None:
    files = {"install.py": "import sys\nprint('no compiler')\nsys.exit(5)\n"}
    governed.gov("node", "add", str(governed.pack("installer", files=files))).ok()
    governed.gov("tx", "run", "installer").failed(1, "install.py failed with exit code 5", "no compiler")


def test_a_repository_of_the_users_is_not_turned_into_a_pack(governed: Governed) -> None:
    mine = make_repository(folder_of(governed, "same"), {"__init__.py": "mine"})
    governed.gov("node", "add", str(governed.pack("same"))).failed(1, "another repository", "--id")
    assert (mine / "__init__.py").read_text() == "mine"


def test_an_untracked_file_in_a_submodule_is_not_overwritten(governed: Governed) -> None:
    inner = make_repository(governed.root / "inner", {"a.txt": "1"})
    pack = governed.pack("outer")
    git(pack, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "lib")
    commit_all(pack)
    governed.gov("node", "add", str(pack)).ok()
    governed.gov("tx", "run", "outer").ok()
    governed.gov("tx", "promote", "1").ok()
    (inner / "new.txt").write_text("theirs")
    commit_all(inner)
    git(pack / "lib", "pull", "-q", "origin", "HEAD")
    commit_all(pack)
    mine = folder_of(governed, "outer") / "lib" / "new.txt"
    mine.write_text("mine")
    governed.gov("tx", "run", "outer", "--ref", "main").ok()
    governed.gov("tx", "promote", "2").failed(1, "lib/new.txt (would be overwritten)")
    assert mine.read_text() == "mine"
    mine.unlink()
    governed.gov("tx", "promote", "2").ok()
    assert mine.read_text() == "theirs"


def test_requirements_of_any_editor_are_read(governed: Governed) -> None:
    pack = governed.pack("windows")
    (pack / "requirements.txt").write_bytes("basis  # größer\r\n".encode("utf-16"))
    (pack / "install.py").write_bytes("# -*- coding: latin-1 -*-\n# größer\n".encode("latin-1"))
    commit_all(pack)
    assert governed.json("node", "add", str(pack))["declared"] == ["basis"]
    governed.gov("tx", "run", "windows").ok()


def test_the_envelope_agrees_with_the_exit_code(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("bad", files={"__init__.py": "import nowhere\n"}))).ok()
    governed.gov("node", "add", str(governed.pack("greedy", "nothing-like-it\n"))).ok()
    failed = governed.gov("tx", "run", "bad", "--json")
    assert (failed.exit_code, failed.envelope["ok"], failed.envelope["error"]["code"]) == (1, False, "trial_failed")
    refused = governed.gov("--json", "tx", "run", "greedy")
    assert (refused.exit_code, refused.envelope["error"]["code"]) == (4, "no_solution")
    assert "is no package that the index has" in refused.envelope["error"]["message"]
    missing = governed.gov("--home", str(governed.home), "rollback", "77", "--json")
    assert missing.envelope["command"] == "rollback"


def test_a_wheel_that_lists_its_bytecode_is_no_damage(governed: Governed) -> None:
    cached = f"carrier/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    governed.wheel("carrier", "1.0", modules={"carrier/__init__.py": "x = 1\n", cached: "not what we compile"})
    governed.promote_pack("one", "carrier\n")
    assert governed.json("status")["drift"] == []


def test_the_same_init_again_is_fine_and_another_is_not(governed: Governed) -> None:
    governed.init().ok()
    governed.init("--constraint", "basis<2").failed(1, "--constraint", "untried")
    governed.gov("init", "--venv", str(governed.root / "elsewhere")).failed(1, "--venv")


LOOK = """
import os
seen = [name for name in os.environ if name in ("GITHUB_PAT", "MYSQL_PWD", "OPENAI_KEY", "HTTPS_PROXY")]
assert not seen, seen
NODE_CLASS_MAPPINGS = {}
"""


def test_a_trial_sees_no_secrets(governed: Governed) -> None:
    secrets = dict.fromkeys(("GITHUB_PAT", "MYSQL_PWD", "OPENAI_KEY"), "hunter2")
    governed.env.update(secrets, HTTPS_PROXY="http://user:hunter2@127.0.0.1:1")
    governed.gov("node", "add", str(governed.pack("looker", files={"__init__.py": LOOK}))).ok()
    governed.gov("tx", "run", "looker").ok()


def test_a_hand_edit_of_a_truth_file_is_kept_aside(governed: Governed) -> None:
    edited = governed.home / "pyproject.toml"
    edited.write_text(edited.read_text() + "# mine\n")
    ran = governed.gov("node", "add", str(governed.pack("one"))).ok()
    assert "pyproject.toml was edited by hand" in ran.stderr
    assert "# mine" in next((governed.home / "state" / "rescued").rglob("pyproject.toml")).read_text()


def test_a_closed_standard_output_is_said(governed: Governed) -> None:
    for command in ("exec >&-", "exec >/dev/full"):
        script = f'{command}; exec "{sys.executable}" -I -m comfygov snapshot create'
        done = subprocess.run(["sh", "-c", script], env=governed.environment(), capture_output=True, text=True)
        assert done.returncode == 1
        assert "standard output" in done.stderr
        assert "comfygov made a mistake" not in done.stderr


ESCAPE = """
import os, site
for path in (os.path.join(site.getsitepackages()[0], "evil.pth"), {home!r} + "/ComfyUI/EVIL", {home!r} + "/state/EVIL"):
    try:
        open(path, "w").close()
    except OSError:
        continue
    raise SystemExit("wrote " + path)
NODE_CLASS_MAPPINGS = {{}}
"""


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Governed]:
    """A home on another file system than everything else, below a device folder."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or not os.access(shm, os.W_OK):
        pytest.skip("there is no /dev/shm to write to")
    place = shm / f"comfygov-test-{os.getpid()}"
    governed = Governed(tmp_path, {"COMFY_HOME": str(place)})
    yield governed
    subprocess.run(["rm", "-rf", str(place)], check=True)


@pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")
def test_a_home_on_another_file_system_works_and_is_protected(in_memory: Governed) -> None:
    make_comfyui(in_memory.comfyui_source)
    in_memory.wheels.mkdir()
    home = in_memory.env["COMFY_HOME"]
    wheels = ("--find-links", str(in_memory.wheels), "--index-url", "none")
    in_memory.gov("init", "--repo", str(in_memory.comfyui_source), *wheels).ok()
    pack = make_pack(in_memory.root / "packs" / "evil", files={"__init__.py": ESCAPE.format(home=home)})
    in_memory.gov("node", "add", str(pack)).ok()
    in_memory.gov("tx", "run", "evil").ok()
