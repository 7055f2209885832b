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


def test_what_is_denied_is_not_run_at_all(governed: Governed) -> None:
    proof = governed.home / "ComfyUI" / "input" / "proof"
    config = governed.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[tx]\nsandbox = "none"\n[policy]\ndeny = ["nasty"]\n')
    code = f"open({str(proof)!r}, 'w').write('x')\n"
    files = {"__init__.py": code + PACK % {"name": "nasty"}, "install.py": code}
    governed.gov("node", "add", str(governed.pack("nasty", files=files))).ok()
    governed.gov("tx", "run", "nasty").failed(1, "deny list")
    assert not proof.exists()
    governed.gov("tx", "promote", "tx0001").failed(1, "deny")


def test_a_release_that_is_known_to_be_bad_is_not_installed_for_a_pack(governed: Governed) -> None:
    governed.wheel("ultralytics", "8.3.41")
    code = INSTALLS.replace('("armed", "other")', '("ultralytics==8.3.41",)') + PACK % {"name": "nasty"}
    governed.gov("node", "add", str(governed.pack("nasty", files={"__init__.py": code}))).ok()
    ran = governed.gov("--json", "tx", "run", "nasty")
    tx = ran.data["transaction"]
    assert tx["observed"]["acts"][0]["installs"][0]["answer"] == "refused"
    assert "mine cryptocurrency" in tx["observed"]["acts"][0]["installs"][0]["reason"]
    assert tx["diff"]["added"] == []


def test_what_reading_finds_is_shown_and_blocks_where_the_policy_says_so(governed: Governed) -> None:
    governed.wheel("brings", "1.0", ("brought",))
    governed.wheel("brought", "1.0")
    config = governed.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[policy.gates]\nstatic_findings = "fail"\n')
    code = "import base64, brought\nexec(base64.b64decode('cGFzcw=='))\n" + PACK % {"name": "nasty"}
    governed.gov("node", "add", str(governed.pack("nasty", "brings\n", files={"__init__.py": code}))).ok()
    ran = governed.gov("tx", "run", "nasty").failed(1)
    assert "__init__.py:2: `exec` runs what was decoded" in ran.stdout
    assert "__init__.py:1: imports brought (brought), which is here because brings needs it" in ran.stdout
    governed.gov("tx", "promote", "tx0001").failed(1, "careful reader")


def test_a_gate_that_is_none_is_an_error(governed: Governed) -> None:
    config = governed.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[policy.gates]\nstatic_finding = "fail"\n')
    governed.gov("status").failed(2, "static_finding", "did you mean `static_findings`?")


def test_an_address_is_not_fetched_for_a_running_pack(governed: Governed) -> None:
    code = INSTALLS.replace(
        '("armed", "other")', '("x @ http://127.0.0.1:9/x-1-py3-none-any.whl", "y @ file:///etc/y.whl")'
    )
    files = {"__init__.py": code + PACK % {"name": "nasty"}}
    governed.gov("node", "add", str(governed.pack("nasty", files=files))).ok()
    tx = governed.gov("--json", "tx", "run", "nasty").data["transaction"]
    requests = tx["observed"]["acts"][0]["installs"]
    assert [request["answer"] for request in requests] == ["refused", "refused"]
    assert all("address" in request["reason"] for request in requests)


def test_what_is_absorbed_without_a_sandbox_shares_no_files_with_the_cache(governed: Governed) -> None:
    """A pack may write into what it has just had installed; every other environment comes out of the same cache."""
    governed.wheel("soft", "1.0", modules={"soft/__init__.py": "value = 1\n"})
    config = governed.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[tx]\nsandbox = "none"\n')
    code = INSTALLS.replace('("armed", "other")', '("soft",)')
    code += "import soft\nif 'desk' in soft.__file__:\n    open(soft.__file__, 'a').write('value = 2\\n')\n"
    governed.gov(
        "node", "add", str(governed.pack("nasty", files={"__init__.py": code + PACK % {"name": "nasty"}}))
    ).ok()
    governed.gov("tx", "run", "nasty").ok()
    cached = list((governed.root / "uv-cache").rglob("soft/__init__.py"))
    assert cached
    assert {path.read_text() for path in cached} == {"value = 1\n"}


def test_installs_of_a_pack_that_is_not_on_trial_are_a_warning(governed: Governed) -> None:
    """It is in production already, and refused there too: it says nothing about the change."""
    late = "import os\nif 'tx0002' in __file__:\n    os.system('pip install missing')\n"
    governed.promote_pack("earlier", files={"__init__.py": late + PACK % {"name": "earlier"}})
    governed.gov("node", "add", str(governed.pack("plain"))).ok()
    tx = governed.gov("--json", "tx", "run", "plain").ok().data["transaction"]
    found = [gate for gate in tx["gates"] if gate["name"] == "runtime_installs"]
    assert [gate["verdict"] for gate in found] == ["warn"]
    assert "earlier is not on trial" in found[0]["evidence"][0]
