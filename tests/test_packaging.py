"""What people install: a wheel and an sdist, on every Python that is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from comfygov import __version__

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).parent / "uv"
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")

pytestmark = pytest.mark.slow


def call(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "COMFY"))}
    return subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of the files that git knows."""
    place = tmp_path_factory.mktemp("packaging")
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / "source" / name, follow_symlinks=False)
    done = call(UV, "build", "--quiet", "--out-dir", place / "dist", place / "source")
    if done.returncode and "hatchling" in done.stderr and "network" in done.stderr.lower():
        pytest.skip("PyPI does not answer: the build needs hatchling")
    assert done.returncode == 0, done.stderr
    return place / "dist"


def wheel_of(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def python(minor: str) -> Path | None:
    """An interpreter of that minor version which runs: on PATH, or one of pyenv's."""
    known = (Path.home() / ".pyenv" / "versions").glob(f"{minor}.*/bin/python")
    on_path = shutil.which(f"python{minor}")
    for candidate in [*([Path(on_path)] if on_path else []), *known]:
        done = call(candidate, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        if done.stdout.strip() == minor:
            return candidate
    return None


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = wheel.namelist()
    assert wheel_of(built).name == f"comfygov-{__version__}-py3-none-any.whl"
    assert {name.split("/")[0] for name in names} == {"comfygov", f"comfygov-{__version__}.dist-info"}
    known = subprocess.check_output(["git", "ls-files", "src"], cwd=ROOT, text=True).splitlines()
    missing = {name.removeprefix("src/") for name in known} - set(names)
    assert not {name for name in missing if (ROOT / "src" / name).is_file()}


def test_the_sdist_can_be_built_and_tested(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames()}
    assert {"src", "tests", "bin", "requirements", "pyproject.toml", "LICENSE", "README.md"} <= tops
    assert not {name for name in tops if name.startswith(".venv")}


@pytest.mark.parametrize("minor", SUPPORTED)
def test_it_installs_and_runs(built: Path, tmp_path: Path, minor: str) -> None:
    base = python(minor)
    if base is None:
        pytest.skip(f"there is no Python {minor} here")
    environment = tmp_path / "environment"
    assert call(UV, "venv", "--quiet", "--python", base, environment).returncode == 0
    done = call(UV, "pip", "install", "--quiet", "--python", environment / "bin" / "python", wheel_of(built))
    if done.returncode and "network" in done.stderr.lower():
        pytest.skip("PyPI does not answer: dependencies are not here")
    assert done.returncode == 0, done.stderr
    gov = environment / "bin" / "gov"
    said = call(gov, "--version").stdout
    assert re.fullmatch(rf"gov {re.escape(__version__)} uv \S+ python {minor}\.\d+\n", said)
    home = {"HOME": str(tmp_path), "COMFY_HOME": str(tmp_path / "none")}
    assert call(gov, "--help", **home).returncode == 0
    refused = call(gov, "status", **home)
    assert refused.returncode == 2
    assert "hint: gov init" in refused.stderr
    # The life of a change takes ten seconds, so that only the oldest and the newest Python play it.
    if minor in (SUPPORTED[0], SUPPORTED[-1]):
        played = call(gov, "demo", "--path", tmp_path / "demo", **home)
        assert played.returncode == 0, played.stderr
