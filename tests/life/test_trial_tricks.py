"""What comfygov itself reads and writes for a trial, outside of the box, where a pack chose the names and the links."""

from __future__ import annotations

import importlib.util
import os
import struct
from pathlib import Path

import pytest

from tests.kit.governed import Governed
from tests.kit.repos import PACK, commit_all, git

from .test_sandbox import BOXES, settings

READS_CONFIGS = (
    """
import os, sys
private = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
home = private.split("/state/work/")[0]
places = [
    os.path.join(tree, part, ".git/config")
    for tree in (private, home + "/ComfyUI")
    for part in ("", "custom_nodes/nasty")
]
for place in places:
    try:
        print(open(place).read(), file=sys.stderr)
    except OSError as error:
        print("held", error, file=sys.stderr)
print("looked at", len(places), file=sys.stderr)
"""
    + PACK % {"name": "nasty"}
)
TOKEN = "the-persons-token"
KEY = "-----BEGIN KEY----- of the person"


def persons_file(governed: Governed, name: str, text: str) -> Path:
    path = governed.root / "user" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def everything_kept(governed: Governed) -> str:
    """All that a trial left in the home and in the caches, as text."""
    places = (governed.home / "state", governed.root / "cache")
    files = (path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


def test_what_a_script_said_is_read_from_no_place_of_its_own(governed: Governed) -> None:
    """A script that puts a link where its output goes has comfygov read the file behind it into the record."""
    key = persons_file(governed, ".ssh/id", KEY)
    script = f"""
import glob, os, sys
places = [os.readlink("/proc/self/fd/1"), *glob.glob("../../../script-*")]
for place in places:
    try:
        os.unlink(place)
        os.symlink({str(key)!r}, place)
    except OSError as error:
        print("not there:", error, flush=True)
sys.exit(3)
"""
    pack = governed.pack("nasty", files={"install.py": script, "__init__.py": PACK % {"name": "nasty"}})
    governed.gov("node", "add", str(pack)).ok()
    ran = governed.gov("tx", "run", "nasty").failed(1, "install.py failed with exit code 3", "not there")
    assert KEY not in ran.stdout + ran.stderr
    assert KEY not in everything_kept(governed)


def test_bytecode_is_made_through_no_link_of_a_pack(governed: Governed) -> None:
    """Code is compiled before anything is in the box: links must not have it written, or read, anywhere else."""
    secret = persons_file(governed, "settings.py", f"KEY = {KEY!r}\n")
    elsewhere = persons_file(governed, "elsewhere/keep", "").parent
    pack = governed.pack("nasty", files={"__init__.py": PACK % {"name": "nasty"}, "sub/evil.py": "evil = 1\n"})
    (pack / "leak.py").symlink_to(secret)
    (pack / "sub" / "__pycache__").symlink_to(elsewhere)
    commit_all(pack)
    governed.gov("node", "add", str(pack)).ok()
    for _ in range(2):
        governed.gov("tx", "run", "nasty").ok()
    assert [path.name for path in elsewhere.iterdir()] == ["keep"]
    assert KEY not in everything_kept(governed)


def test_bytecode_that_a_pack_brings_is_what_is_tried(governed: Governed) -> None:
    """Python runs it in place of its source, in production too: a trial that made its own would try something else."""
    pack = governed.pack(
        "nasty", files={"__init__.py": "from .helper import *\n", "helper.py": PACK % {"name": "Shown"}}
    )
    hidden = importlib._bootstrap_external._code_to_hash_pyc(  # type: ignore[attr-defined]
        compile(PACK % {"name": "Hidden"}, "helper.py", "exec"), bytes(8), checked=False
    )
    assert struct.unpack("<I", hidden[4:8]) == (1,)
    place = Path(importlib.util.cache_from_source(str(pack / "helper.py")))
    place.parent.mkdir()
    place.write_bytes(hidden)
    commit_all(pack)
    governed.gov("node", "add", str(pack)).ok()
    ran = governed.gov("--json", "tx", "run", "nasty").ok()
    [load] = [gate for gate in ran.data["transaction"]["gates"] if gate["name"] == "pack_loads"]
    assert load["evidence"] == ["Hidden"]
    [read] = [gate for gate in ran.data["transaction"]["gates"] if gate["name"] == "static_findings"]
    assert read["evidence"] == [f"__pycache__/{place.name}: compiled code, which runs in place of its source"]


def test_names_that_a_pack_chose_do_nothing_to_a_terminal(governed: Governed) -> None:
    name = "\x1b]0;owned\x07\x1b[2J\u202eevil"
    code = (
        f"""
import os, sys
print({name!r}, "Cannot import custom_nodes/other module for custom nodes: " + {name!r}, file=sys.stderr)
for where in ({name!r}, "/nowhere/" + {name!r}):
    try:
        open("/nowhere/" + where, "w")
    except OSError:
        pass
os.system("true " + {name!r})
"""
        + PACK % {"name": name}
    )
    code = code.replace(f'"{name}": Marker', f"{name!r}: Marker")
    code = code.replace(f'("{name}",)', '("x",)')
    governed.gov("node", "add", str(governed.pack("nasty", files={"__init__.py": code}))).ok()
    ran = governed.gov("tx", "run", "nasty")
    shown = ran.stdout + ran.stderr + governed.gov("tx", "inspect", "tx0001").stdout
    assert "evil" in shown
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}


def test_a_terminal_of_the_person_is_out_of_reach(governed: Governed) -> None:
    """Who may open it reads what is typed there, a password for sudo too."""
    config = governed.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[tx]\nsandbox = "landlock"\n')
    outer, terminal = os.openpty()
    name = os.ttyname(terminal)
    code = (
        f"""
import os, sys
for flags in (os.O_RDONLY, os.O_WRONLY):
    try:
        os.open({name!r}, flags | os.O_NOCTTY)
        print("terminal opened", file=sys.stderr)
    except OSError as error:
        print("held", error, file=sys.stderr)
"""
        + PACK % {"name": "nasty"}
    )
    try:
        governed.gov("node", "add", str(governed.pack("nasty", files={"__init__.py": code}))).ok()
        governed.gov("tx", "run", "nasty").ok()
    finally:
        os.close(terminal)
        os.close(outer)
    log = (governed.home / "state" / "logs" / "tx0001.stderr.log").read_text()
    assert log.count("held") == 2
    assert "terminal opened" not in log


@pytest.mark.parametrize("box", BOXES)
def test_the_address_that_somebody_cloned_from_is_not_seen(box: str, governed: Governed) -> None:
    """People put tokens into it."""
    settings(governed, sandbox=box)
    governed.gov("node", "add", str(governed.pack("nasty", files={"__init__.py": READS_CONFIGS}))).ok()
    for folder in ("", "custom_nodes/nasty"):
        git(governed.home / "ComfyUI" / folder, "config", "remote.origin.url", f"https://{TOKEN}@example.org/x")
    tx = governed.gov("--json", "tx", "run", "nasty").ok().data["transaction"]
    log = (governed.home / tx["logs"]["stderr"]).read_text()
    assert "looked at 4" in log
    assert TOKEN not in log


@pytest.mark.parametrize("trick", ["home", "tree"])
def test_a_script_that_takes_folders_of_the_trial_away_is_no_mistake_of_ours(trick: str, governed: Governed) -> None:
    place = {"home": 'os.environ["HOME"]', "tree": 'os.environ["COMFYUI_PATH"]'}[trick]
    script = f"import os, shutil\nshutil.rmtree({place})\nos.symlink('/nowhere', {place})\n"
    pack = governed.pack("nasty", files={"install.py": script, "__init__.py": PACK % {"name": "nasty"}})
    governed.gov("node", "add", str(pack)).ok()
    ran = governed.gov("tx", "run", "nasty")
    if trick == "home":
        ran.ok()
    else:
        ran.failed(1, "there is no such directory")
