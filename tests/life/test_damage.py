"""Damaged environments: seen, never built upon, never made production, and never mistaken for the base Python."""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfygov.ports.comfy_api import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.governed import Governed


def production(governed: Governed) -> Path:
    return Path(os.path.realpath(governed.home / ".venv-prod"))


def site(environment: Path) -> Path:
    return next(environment.glob("lib/python3*/site-packages"))


def remove_config(environment: Path) -> None:
    (environment / "pyvenv.cfg").unlink()


def empty_config(environment: Path) -> None:
    (environment / "pyvenv.cfg").write_text("")


def remove_python(environment: Path) -> None:
    (environment / "bin" / "python").unlink()


def lead_python_nowhere(environment: Path) -> None:
    remove_python(environment)
    (environment / "bin" / "python").symlink_to("/no/such/python")


def remove_package(environment: Path) -> None:
    shutil.rmtree(site(environment) / "basis")


def remove_package_and_record(environment: Path) -> None:
    remove_package(environment)
    shutil.rmtree(site(environment) / "basis-1.0.dist-info")


def add_path_file(environment: Path) -> None:
    (site(environment) / "evil.pth").write_text("import os\n")


def add_module(environment: Path) -> None:
    (site(environment) / "intruder").mkdir()
    (site(environment) / "intruder" / "__init__.py").write_text("")


def add_module_to_a_package(environment: Path) -> None:
    (site(environment) / "basis" / "evil.py").write_text("")


def let_the_system_in(environment: Path) -> None:
    config = environment / "pyvenv.cfg"
    config.write_text(config.read_text().replace("packages = false", "packages = true"))


def lead_to_another_python(environment: Path) -> None:
    remove_python(environment)
    (environment / "bin" / "python").symlink_to(shutil.which("env") or "/usr/bin/env")


def spoil_seal(environment: Path) -> None:
    (environment / "comfygov-generation.json").write_text("{")


def names_in_base_python() -> set[str]:
    """What is installed in the Python below all environments: nothing of ours may ever come or go there."""
    return {path.name for path in Path(sys.base_prefix).glob("lib/python3*/*-packages/*")}


DAMAGES = [
    remove_config,
    empty_config,
    remove_python,
    lead_python_nowhere,
    remove_package,
    remove_package_and_record,
    add_path_file,
    add_module,
    add_module_to_a_package,
    let_the_system_in,
    lead_to_another_python,
    spoil_seal,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_seen_refused_and_repaired_by_building_anew(
    governed: Governed, damage: Callable[[Path], None]
) -> None:
    governed.wheel("extra", "1.0")
    governed.gov("node", "add", str(governed.pack("other", "extra\n"))).ok()
    healthy = governed.world()
    before = names_in_base_python()
    damage(production(governed))

    assert governed.json("status")["drift"]
    governed.gov("run", "--detach").failed(3, "gov sync")
    if damage is spoil_seal:
        governed.gov("tx", "run", "other").failed(3, "gov sync")
        governed.gov("sync").ok()
    trial = governed.json("tx", "run", "other")["transaction"]
    assert [package["name"] for package in trial["diff"]["added"]] == ["extra"]
    candidate = governed.home / trial["candidate_env"]
    assert (candidate / "pyvenv.cfg").is_file()
    assert {p.name for p in site(candidate).glob("*.dist-info")} == {"basis-1.0.dist-info", "extra-1.0.dist-info"}
    assert not (site(candidate) / "evil.pth").exists()
    assert names_in_base_python() == before

    said = governed.gov("sync").ok().stderr
    assert ("environment: done in" in said) == (damage is not spoil_seal)
    assert governed.world() == healthy
    assert not governed.json("status")["drift"]
    governed.gov("run", "--detach", "--", "--port", str(free_port())).ok()
    governed.gov("stop").ok()


@pytest.mark.parametrize("damage", [remove_config, remove_package, add_path_file], ids=lambda damage: damage.__name__)
def test_rollback_never_goes_to_a_damaged_environment(governed: Governed, damage: Callable[[Path], None]) -> None:
    old, healthy = production(governed), governed.installed()
    governed.wheel("extra", "1.0")
    governed.promote_pack("other", "extra\n")
    damage(old)
    governed.gov("rollback", "1").ok()
    assert production(governed) == old
    assert governed.installed() == healthy
    assert (site(old) / "basis" / "__init__.py").is_file()
    assert not governed.json("status")["drift"]


def test_promote_onto_a_damaged_environment_builds_it_anew(governed: Governed) -> None:
    governed.wheel("extra", "1.0")
    governed.promote_pack("one", "extra\n")
    second = production(governed)
    governed.gov("node", "remove", "one").ok()
    governed.gov("node", "add", str(governed.pack("two", "extra\n"))).ok()
    txid = governed.json("tx", "run", "two")["transaction"]["txid"]
    shutil.rmtree(site(second) / "extra")
    governed.gov("tx", "promote", txid).ok()
    assert production(governed) == second
    assert (site(second) / "extra" / "__init__.py").is_file()


@pytest.mark.parametrize("damage", [remove_package, add_path_file, remove_config])
def test_a_candidate_that_was_damaged_after_its_trial_is_not_what_is_promoted(
    governed: Governed, damage: Callable[[Path], None]
) -> None:
    governed.wheel("extra", "1.0")
    governed.gov("node", "add", str(governed.pack("pa", "extra\n"))).ok()
    governed.gov("tx", "run", "pa").ok()
    damage(governed.home / ".venv-candidate" / "tx0001")
    governed.gov("tx", "promote", "1").ok()
    assert governed.installed() == {"basis-1.0", "extra-1.0"}
    governed.gov("verify", "--deep").ok()


def test_what_a_smoke_test_did_to_the_environment_is_not_promoted(governed: Governed) -> None:
    governed.wheel("extra", "1.0")
    smoke = "import basis, os; os.remove(basis.__file__)"
    config = governed.home / "config.toml"
    settings = f'[tx]\nsandbox = "none"\nsmoke_test_cmd = ["python", "-c", "{smoke}"]\n'
    config.write_text(f"{config.read_text()}\n{settings}")
    governed.gov("node", "add", str(governed.pack("pa", "extra\n"))).ok()
    governed.gov("tx", "run", "pa").ok()
    governed.gov("tx", "promote", "1").ok()
    governed.gov("verify", "--deep").ok()


def test_bytecode_that_a_full_disk_cut_off_is_taken_away_by_sync(governed: Governed) -> None:
    """Python writes it, and then starts nothing that needs it."""
    tree = governed.home / "ComfyUI"
    whole, cut = (Path(py_compile.compile(str(tree / name), doraise=True) or "") for name in ("main.py", "nodes.py"))
    cut.write_bytes(cut.read_bytes()[:100])
    governed.gov("run", "--detach", "--", "--port", str(free_port())).failed(1, "marshal data too short", "gov sync")
    (line,) = governed.gov("sync", "--json").ok().data["repaired"]
    assert "nodes" in line
    assert (whole.exists(), cut.exists()) == (True, False)


def test_an_environment_without_network_and_wheels_is_not_replaced_by_half_of_one(governed: Governed) -> None:
    old = production(governed)
    governed.wheel("extra", "1.0")
    governed.promote_pack("other", "extra\n")
    remove_package(old)
    shutil.rmtree(governed.root / "uv-cache")
    shutil.rmtree(governed.wheels)
    before = governed.world()
    assert governed.gov("rollback", "1").exit_code in (1, 5)
    assert governed.world() == before


def test_a_verdict_is_remembered_until_a_folder_changes(governed: Governed) -> None:
    assert not governed.json("status")["drift"]
    os.utime(production(governed), (1, 1))
    for folder in production(governed).rglob("*"):
        if folder.is_dir():
            os.utime(folder, (1, 1))
    assert not governed.json("status")["drift"]
    known = json.loads((governed.home / "state" / "environments.json").read_text())
    assert known[production(governed).name]["problems"] == []
    (site(production(governed)) / "basis" / "__init__.py").unlink()
    assert any("basis/__init__.py is missing" in line for line in governed.json("status")["drift"])
