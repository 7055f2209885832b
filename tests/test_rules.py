"""The rooms of the design (section 12) and the budget of `gov --help`, held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "comfygov"
DATA = ("demo/standin", "demo/packs")  # they play other people's code
MIDDLE = {"truth", "envs", "resolve", "trial", "models", "versions"}
MAY_IMPORT = {
    "errors": set(),
    "model": {"model"},
    "ports": {"ports", "model", "errors"},
    **{room: {room, "ports", "model", "errors"} for room in MIDDLE},
    "demo": {"demo"},
    "delivery": {"delivery", "trial", "ports", "model", "errors"},  # it starts ComfyUI as a trial does
    "ops": {"ops", "demo", "delivery", "__version__", "ports", "model", "errors", *MIDDLE},
    "cli": {"cli", "ops", "model", "errors", "__version__"},
}
WORLD = {"subprocess", "socket", "urllib3", "http", "urllib.request"}
HEAVY = {"rich", "urllib3", "packaging", "psutil", "tomlkit", "yaml", "uv", "asyncio", "msgspec"}


def files() -> list[Path]:
    found = (path for path in SOURCE.rglob("*.py"))
    return [path for path in found if not path.relative_to(SOURCE).as_posix().startswith(DATA)]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module} | {f"{node.module}.{alias.name}" for alias in node.names})
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    allowed = MAY_IMPORT.get(room_of(path))
    if allowed is None:
        return
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("comfygov.")}
    assert ours <= allowed, f"{path} imports {ours - allowed}"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_only_ports_and_delivery_touch_the_world(path: Path) -> None:
    if room_of(path) not in ("ports", "delivery"):
        assert not imported(path) & WORLD, path


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_only_the_renderer_prints(path: Path) -> None:
    if path.parent == SOURCE / "cli" / "render":
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)} | {
        f"{call.value.id}.{call.attr}"
        for call in calls
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
    }
    assert not names & {"print", "click.echo", "click.secho"}, path


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= (120 if room_of(path) == "cli" and path.parent.name == "cli" and path.name != "entry.py" else 400)


def test_help_is_light() -> None:
    script = "import sys; sys.argv = ['gov']; from comfygov.cli.entry import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & HEAVY
