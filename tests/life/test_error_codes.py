"""Every error code that scripts match on is really raised, by the command that its users run."""

from __future__ import annotations

import errno
import json
import shutil
import socket
from pathlib import Path

import pytest

from comfygov.errors import Code, GovError
from comfygov.ports import fs
from tests.kit.governed import Governed
from tests.kit.repos import commit_all, make_repository

TESTS = Path(__file__).parent.parent
# Raised by a fault that another suite makes.
ELSEWHERE = (
    Code.INTERNAL,
    Code.JOB_FAILED,
    Code.PROMOTE_FAILED,
    Code.TORCH_MISFIT,
    Code.DISK_FULL,
    Code.BUSY,
    Code.INTERRUPTED,
    Code.TIMEOUT,
    Code.NETWORK,
    Code.TOOL_FAILED,
    Code.TOOL_MISSING,
)


def raised(governed: Governed, *arguments: str) -> str:
    """The code of a command that must fail, whose exit code must be the one that belongs to it."""
    ran = governed.gov("--json", *arguments)
    code: str = ran.envelope["error"]["code"]
    assert ran.exit_code == next(known.exit_code for known in Code if known.text == code), ran
    assert ran.envelope["error"]["hint"], ran
    return code


def test_codes_of_names_and_places(governed: Governed) -> None:
    plain = make_repository(governed.root / "plain", {"README": "x"})
    pack = str(governed.pack("fine"))
    governed.gov("node", "add", pack).ok()
    assert raised(governed, "rollback") == "usage"
    assert raised(governed, "rollback", "77") == "not_found"
    assert raised(governed, "--home", str(plain), "status") == "not_a_home"
    assert raised(governed, "node", "add", pack, "--id", "../x") == "bad_id"
    assert raised(governed, "node", "add", "ext::x", "--id", "x") == "bad_source"
    assert raised(governed, "node", "add", pack, "--id", "y", "--ref", "nope") == "ref_not_found"
    assert raised(governed, "node", "add", pack) == "already_exists"
    assert raised(governed, "node", "add", str(plain)) == "not_a_pack"
    assert raised(governed, "init", "--path", str(governed.root / "other"), "--repo", str(plain)) == "not_comfyui"
    assert raised(governed, "node", "enable", "fine") == "wrong_state"
    assert raised(governed, "stop") == "not_running"


def test_codes_of_changes(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("wishful", "nobody-has==1\n"))).ok()
    assert raised(governed, "tx", "run", "wishful") == "no_solution"
    broken = governed.pack("broken", files={"__init__.py": "import nothing_of_this_name\n"})
    (broken / "__init__.py").write_text("import nothing_of_this_name\n")
    governed.gov("node", "add", str(broken)).ok()
    assert raised(governed, "tx", "run", "broken") == "trial_failed"
    governed.gov("node", "add", str(governed.pack("unreadable", "this is === no requirement\n")))
    assert raised(governed, "tx", "run", "unreadable") in ("bad_requirements", "no_solution")
    governed.wheel("numpy", "1.0")
    moved = governed.json("tx", "run", "--dep", "numpy")["transaction"]["txid"]
    assert raised(governed, "tx", "promote", moved) == "needs_approval"
    governed.promote_pack("mine")
    (governed.root / "packs" / "mine" / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    commit_all(governed.root / "packs" / "mine")
    newer = governed.gov("--json", "tx", "run", "mine").data["transaction"]["txid"]
    (governed.home / "ComfyUI" / "custom_nodes" / "mine" / "__init__.py").write_text("edited = True\n")
    assert raised(governed, "verify") == "drift"
    assert raised(governed, "tx", "promote", newer, "--allow-failed-run", "--reason", "r") == "local_edits"


def test_codes_of_a_home_that_is_not_whole(governed: Governed) -> None:
    audit = governed.home / "state" / "audit.jsonl"
    lines = audit.read_text()
    audit.write_text(lines.replace('"action"', '"Action"'))
    assert raised(governed, "audit", "--check") == "audit_broken"
    audit.write_text(lines)
    (site,) = (governed.home / ".venv-prod" / "lib").glob("python3*/site-packages")
    shutil.rmtree(site / "basis")
    assert raised(governed, "run") == "environment_damaged"
    governed.gov("sync").ok()
    head = governed.home / "state" / "head.json"
    whole = head.read_text()
    head.write_text(json.dumps({**json.loads(whole), "schema_version": 99}))
    assert raised(governed, "status") == "home_newer"
    head.write_text("{")
    assert raised(governed, "status") == "home_damaged"
    head.write_text(whole)
    (governed.home / "config.toml").write_text("[tx]\nsandbox = 'none of these'\n")
    assert raised(governed, "status") == "bad_config"


def test_codes_of_production(governed: Governed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert raised(governed, "run", "--", "--port", port) == "port_taken"
    assert raised(governed, "run", "--detach", "--", "--port", port, "--no-such-option") == "not_ready"
    governed.gov("run", "--detach", "--", "--port", port).ok()
    try:
        assert raised(governed, "run", "--detach", "--", "--port", port) == "running"
    finally:
        governed.gov("stop").ok()


def test_a_wheel_that_is_another_one_by_now_is_a_build_that_failed(governed: Governed) -> None:
    governed.wheel("extra", "1.0")
    before = governed.head()
    governed.promote_pack("first", "extra\n")
    after = governed.head()
    environment = (governed.home / ".venv-prod").resolve()
    governed.gov("rollback", before).ok()
    shutil.rmtree(environment)
    governed.wheel("extra", "1.0", modules={"extra/__init__.py": "other = True\n"})
    assert raised(governed, "rollback", after) == "build_failed"
    governed.gov("verify").ok()


def test_rights_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(GovError) as caught, fs.explained(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "file"))
    assert caught.value.code is Code.PERMISSION
    assert str(tmp_path / "file") in caught.value.message


def test_every_code_has_a_test() -> None:
    """Here, or where it is checked as `Code.X` or by its text."""
    here = Path(__file__).read_text()
    others = "\n".join(path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__))
    for code in Code:
        wanted = (f"Code.{code.name}", f'"{code.text}"')
        assert any(words in (others if code in ELSEWHERE else here) for words in wanted), code
