"""Ways out of the box that go through comfygov itself: what it does for a trial, outside, with what a pack chose."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.kit.governed import Governed
from tests.kit.repos import PACK

INSTALLS = """
import subprocess, sys
for name in ("armed", "other"):
    subprocess.run([sys.executable, "-m", "pip", "install", name])
"""


def armed_wheel(home: Governed, proof: Path) -> Path:
    """A package whose `.pth` file writes `proof` whenever the Python of its environment starts."""
    line = f"import os; open({str(proof)!r}, 'a').write(str(os.getpid()))\n"
    home.wheel("armed", "1.0", modules={"armed/__init__.py": "", "armed/data.txt": "x", "armed.pth": line})
    return home.wheels / "armed-1.0-py3-none-any.whl"


def test_a_package_that_was_absorbed_does_not_run_outside(governed: Governed) -> None:
    proof = governed.root / "proof"
    armed_wheel(governed, proof)
    governed.wheel("other", "1.0")
    pack = governed.pack("nasty", files={"__init__.py": INSTALLS + PACK % {"name": "nasty"}})
    governed.gov("node", "add", str(pack)).ok()
    tx = governed.gov("--json", "tx", "run", "nasty").ok().data["transaction"]
    assert {package["name"] for package in tx["diff"]["added"]} == {"armed", "other"}
    assert not proof.exists()


def test_a_package_whose_record_lies_does_not_run_outside(governed: Governed) -> None:
    """An environment that does not match its RECORD is made anew, without one to start from."""
    proof = governed.root / "proof"
    wheel = armed_wheel(governed, proof)
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["armed/data.txt"] = b"more"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    governed.gov("node", "add", str(governed.pack("nasty", "armed\n"))).ok()
    governed.gov("tx", "run", "nasty").failed(3, "does not match")
    assert not proof.exists()
