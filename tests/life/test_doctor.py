"""`gov doctor` says what a machine can do, with a home and without one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from comfygov.ops.doctor import torch_check
from comfygov.ports import filesystem
from comfygov.ports.comfy_api import free_port
from comfygov.resolve import torch_backend
from tests.kit.governed import Governed


def test_it_works_without_a_home(bare: Governed) -> None:
    bare.env["COMFY_HOME"] = ""
    ran = bare.gov("doctor", "--offline").ok()
    assert "sandbox: " in ran.stdout
    assert "git version" in ran.stdout
    assert bare.json("doctor", "--offline")["home"] is None
    bare.gov("--home", str(bare.root / "nowhere"), "doctor", "--offline").failed(2, "no governed home")


def test_what_keeps_commands_from_working_is_a_failure(bare: Governed, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    bare.env.update(PATH=str(tmp_path / "bin"), COMFY_HOME="")
    ran = bare.gov("doctor", "--offline").failed(1, "install git")
    assert "bubblewrap" in ran.stdout


def test_a_sandbox_that_the_settings_name_is_looked_at(governed: Governed) -> None:
    config = governed.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[tx]\nsandbox = "none"\n')
    checks = {check["name"]: check for check in governed.json("doctor")["checks"]}
    if checks["sandbox"]["words"].startswith("trials"):
        assert checks["sandbox setting"]["verdict"] == "warn"


def test_a_source_that_does_not_answer_is_named(governed: Governed) -> None:
    assert _network(governed)["words"] == "nothing here comes from a server"
    project = governed.home / "pyproject.toml"
    address = f"http://person:secret@127.0.0.1:{free_port()}/simple"
    index = f'[[tool.uv.index]]\nname = "main"\nurl = "{address}"\ndefault = true\n'
    project.write_text(project.read_text().replace("no-index = true\n", "") + index)
    found = _network(governed)
    assert found["verdict"] == "warn"
    assert found["details"][0].startswith("http://127.0.0.1:")
    assert "does not answer" in found["details"][0]
    assert "secret" not in str(found)
    assert governed.json("doctor", "--offline")["checks"][-1]["name"] != "network"


def _network(governed: Governed) -> Any:
    return governed.json("doctor")["checks"][-1]


@pytest.mark.parametrize(
    ("version", "driver", "verdict"),
    [
        ("2.11.0+cu130", 580, "pass"),
        ("2.11.0+cu130", 570, "warn"),
        ("2.11.0+cpu", 580, "warn"),
        ("2.11.0+cu130", None, None),
        ("2.11.0+rocm6.4", 580, None),
        ("2.11.0", 580, None),
    ],
)
def test_torch_and_the_driver_fit_or_not(version: str, driver: int | None, verdict: str | None) -> None:
    assert [check.verdict for check in torch_check(version, driver)] == ([verdict] if verdict else [])


def test_a_build_that_no_table_names_needs_what_the_older_one_needs() -> None:
    assert torch_backend.driver_for("cu129") == torch_backend.driver_for("cu128") == 570
    assert torch_backend.driver_for("rocm6.4") is None


def test_the_file_system_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = filesystem.abilities(tmp_path)
    assert found.hardlinks  # every file system that the tests run on has them
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said(governed: Governed) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (governed.home / "state").chmod(0o500)
    try:
        checks = {check["name"]: check for check in governed.json("doctor", "--offline")["checks"]}
    finally:
        (governed.home / "state").chmod(0o700)
    assert checks["file system"]["verdict"] == "warn"
