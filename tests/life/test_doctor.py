"""`gov doctor` says what a machine can do, with a home and without one."""

from __future__ import annotations

from pathlib import Path

from tests.kit.governed import Governed


def test_it_works_without_a_home(bare: Governed) -> None:
    bare.env["COMFY_HOME"] = ""
    ran = bare.gov("doctor").ok()
    assert "sandbox: " in ran.stdout
    assert "git version" in ran.stdout
    assert bare.json("doctor")["home"] is None
    bare.gov("--home", str(bare.root / "nowhere"), "doctor").failed(2, "no governed home")


def test_what_keeps_commands_from_working_is_a_failure(bare: Governed, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    bare.env.update(PATH=str(tmp_path / "bin"), COMFY_HOME="")
    ran = bare.gov("doctor").failed(1, "install git")
    assert "bubblewrap" in ran.stdout


def test_a_sandbox_that_the_settings_name_is_looked_at(governed: Governed) -> None:
    config = governed.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[tx]\nsandbox = "none"\n')
    checks = {check["name"]: check for check in governed.json("doctor")["checks"]}
    if checks["sandbox"]["words"].startswith("trials"):
        assert checks["sandbox setting"]["verdict"] == "warn"
