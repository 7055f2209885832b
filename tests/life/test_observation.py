"""What packs do is seen and attributed; what they install while they start becomes part of the plan."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.kit.governed import Governed
from tests.kit.repos import PACK

ATTEMPT = """
import os, shutil, socket, subprocess, sys, threading, time
def attempt(do):
    try:
        do()
    except Exception as error:
        print("attempt:", repr(error), file=sys.stderr)
PIP = [sys.executable, "-m", "pip", "install"]
"""


def add(home: Governed, name: str, code: str, **options: Any) -> None:
    text = ATTEMPT + code + PACK % {"name": name.replace("-", "_")}
    home.gov(
        "node", "add", str(home.pack(name, files={"__init__.py": text, **options.pop("files", {})}, **options))
    ).ok()


def tried(home: Governed, name: str) -> dict[str, Any]:
    ran = home.gov("--json", "tx", "run", name)
    assert ran.exit_code in (0, 1), ran
    found: dict[str, Any] = home.json("tx", "inspect", "tx0001")["transaction"]
    return found


def acts(tx: dict[str, Any], pack: str) -> dict[str, Any]:
    found: dict[str, Any] = next((entry for entry in tx["observed"]["acts"] if entry["pack"] == pack), {})
    return found


def gate(tx: dict[str, Any], name: str) -> list[str]:
    return [entry["verdict"] for entry in tx["gates"] if entry["name"] == name]


@pytest.fixture
def home(governed: Governed) -> Governed:
    governed.wheel("extra", "1.0")
    return governed


FORMS = {
    "check-call": "attempt(lambda: subprocess.check_call([*PIP, 'extra']))",
    "isolated": "attempt(lambda: subprocess.check_call([sys.executable, '-I', '-m', 'pip', 'install', 'extra']))",
    "shell": "os.system('pip install extra')",
    "shell-python": "os.system(sys.executable + ' -m pip install extra')",
    "popen-shell": "attempt(lambda: subprocess.run('pip3 install -q extra', shell=True))",
    "whole-path": "attempt(lambda: subprocess.run(['/usr/bin/pip', 'install', 'extra']))",
    "in-process": "import pip; attempt(lambda: pip.main(['install', 'extra']))",
    "internal": "from pip._internal import main; attempt(lambda: main(['install', 'extra']))",
    "internal-cli": "from pip._internal.cli.main import main; attempt(lambda: main(['install', 'extra']))",
    "uv": "attempt(lambda: subprocess.run(['uv', 'pip', 'install', 'extra']))",
    "uv-module": "attempt(lambda: subprocess.run([sys.executable, '-m', 'uv', 'pip', 'install', 'extra']))",
    "easy-install": "attempt(lambda: subprocess.run(['easy_install', 'extra']))",
    "conda": "attempt(lambda: subprocess.run(['conda', 'install', '-y', '-c', 'conda-forge', 'extra']))",
    "target": "attempt(lambda: subprocess.run([*PIP, '--target', '/tmp/there', 'extra']))",
    "requirements": (
        "here = os.path.dirname(__file__)\n"
        "attempt(lambda: subprocess.run([*PIP, '-r', os.path.join(here, 'more.txt')]))"
    ),
    "thread": "t = threading.Thread(target=lambda: subprocess.run([*PIP, 'extra'])); t.start(); t.join()",
    "daemon": (
        "code = 'import os, subprocess, sys\\nfor _ in (1, 2):\\n    os.fork() and os._exit(0)\\n    os.setsid()\\n'\n"
        'code += \'subprocess.run([sys.executable, "-m", "pip", "install", "extra"])\\nopen("done", "w")\'\n'
        "subprocess.run([sys.executable, '-c', code])\n"
        "while not os.path.exists('done'): time.sleep(0.05)\n"
        "os.remove('done')"
    ),
    "scrubbed": "attempt(lambda: subprocess.run([*PIP, 'extra'], env={'PATH': os.environ['PATH']}))",
    "ensurepip": "attempt(lambda: subprocess.run([sys.executable, '-m', 'ensurepip'])); os.system('pip install extra')",
}


def test_an_install_in_any_form_becomes_part_of_the_plan(home: Governed) -> None:
    names = {form: f"extra-{form}" for form in FORMS}
    for name in names.values():
        home.wheel(name, "1.0")
    code = "\n".join(text.replace("extra", names[form]) for form, text in FORMS.items())
    add(home, "inst", code, files={"more.txt": "# more\nextra-requirements>=1\n"})
    tx = tried(home, "inst")
    assert tx["status"] == "completed", tx["gates"]
    absorbed = [request for request in acts(tx, "inst")["installs"] if request["answer"] == "absorbed"]
    assert len(absorbed) == len(FORMS)
    assert {package["name"] for package in tx["diff"]["added"]} == {*names.values()}
    assert {request["form"] for request in absorbed} == {"pip", "pip3", "uv", "easy_install", "conda"}
    assert gate(tx, "runtime_installs") == ["warn"]


def test_what_was_absorbed_is_promoted_and_declared(home: Governed) -> None:
    add(home, "inst", "attempt(lambda: subprocess.check_call([*PIP, 'extra'])); import extra")
    tx = tried(home, "inst")
    home.gov("tx", "promote", tx["txid"]).ok()
    assert "extra-1.0" in home.installed()
    assert "extra" in (home.home / "pyproject.toml").read_text()
    plugins = json.loads((home.home / "state" / "plugins.json").read_text())
    assert "extra" in json.dumps(plugins)
    home.gov("verify").ok()


def test_several_installs_are_answered_in_one_boot(home: Governed) -> None:
    home.wheel("second", "1.0", ("third",))
    home.wheel("third", "1.0")
    code = "\n".join(f"subprocess.check_call([*PIP, '{name}'])\nimport {name}" for name in ("extra", "second", "third"))
    add(home, "inst", code)
    tx = tried(home, "inst")
    assert tx["status"] == "completed", tx["gates"]
    assert [package["name"] for package in tx["diff"]["added"]] == ["extra", "second", "third"]


def test_an_install_that_would_move_production_is_refused(home: Governed) -> None:
    home.wheel("basis", "2.0")
    add(home, "inst", "attempt(lambda: subprocess.check_call([*PIP, 'basis>=2']))")
    before = home.world()
    tx = tried(home, "inst")
    assert tx["status"] == "failed"
    [request] = acts(tx, "inst")["installs"]
    assert request["answer"] == "refused"
    assert "basis 1.0 -> 2.0" in request["reason"]
    assert home.world() == before


def test_the_policy_says_whether_a_refusal_blocks(home: Governed) -> None:
    config = home.home / "config.toml"
    config.write_text(config.read_text() + '\n[policy]\nruntime_installs = "record"\n')
    add(home, "inst", "attempt(lambda: subprocess.check_call([*PIP, 'torch']))")
    tx = tried(home, "inst")
    assert tx["status"] == "completed"
    assert gate(tx, "runtime_installs") == ["warn"]


def test_acts_are_attributed_with_the_worst_first(home: Governed) -> None:
    add(home, "quiet", "")
    home.gov("tx", "run", "quiet").ok()
    home.gov("tx", "promote", "tx0001").ok()
    outside = home.root / "user" / "x"
    code = f"""
attempt(lambda: os.environ.get("MY_API_TOKEN"))
attempt(lambda: open({str(outside)!r}, "w"))
attempt(lambda: os.remove({str(home.home / "uv.lock")!r}))
attempt(lambda: shutil.rmtree({str(home.home / "models")!r}))
attempt(lambda: socket.create_connection(("192.0.2.1", 9), 0.05))
child = "import socket; socket.getaddrinfo('child.invalid', 443)"
attempt(lambda: subprocess.run([sys.executable, "-c", child], capture_output=True))
"""
    add(home, "loud", code)
    tx = home.gov("--json", "tx", "run", "loud").ok().data["transaction"]
    assert [entry["pack"] for entry in tx["observed"]["acts"]] == ["loud"]
    seen = acts(tx, "loud")
    assert seen["secrets"] == ["MY_API_TOKEN"]
    assert seen["writes"] == [str(outside)]
    assert seen["deletes"] == [str(home.home / "models"), str(home.home / "uv.lock")]
    assert seen["connections"] == ["192.0.2.1:9", "child.invalid:443"]
    assert "started" in home.gov("tx", "inspect", tx["txid"]).ok().stdout


@pytest.mark.parametrize("policy", ["block", "record", "allow"])
def test_production_answers_installs_as_the_policy_says(policy: str, home: Governed) -> None:
    config = home.home / "config.toml"
    config.write_text(config.read_text() + f'\n[policy]\nruntime_installs = "{policy}"\n')
    guard = "here = os.path.dirname(__file__)\nif 'state/work' not in here:\n"
    code = f"{guard}    attempt(lambda: subprocess.run([*PIP, 'extra>=1', 'basis']))\n"
    add(home, "inst", code)
    home.gov("tx", "run", "inst").ok()
    home.gov("tx", "promote", "tx0001").ok()
    before = home.world()
    try:
        home.gov("run", "--detach", "--", "--port", str(_port())).ok()
        text = _wait_for_log(home, "comfygov:" if policy == "block" else "inst")
    finally:
        home.gov("stop")
    assert home.world() == before
    log = home.home / "state" / "logs" / "installs.jsonl"
    assert log.exists() == (policy != "allow")
    if policy == "block":
        assert "gov tx run inst --dep 'extra>=1'" in text


def _port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_log(home: Governed, word: str) -> str:
    deadline = time.monotonic() + 20
    text = ""
    while time.monotonic() < deadline and word not in text:
        text = (home.home / "state" / "logs" / "comfyui.log").read_text()
        time.sleep(0.1)
    return text
