"""Starting: flags, packs that fail, prestartup scripts, extra model paths, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfygov.demo.repositories import pack_names, workflow_path, write_pack, write_standin

if TYPE_CHECKING:
    from .conftest import Start

AddPack = Callable[[str, dict[str, str]], Path]
NODE = """
class {name}:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"
    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{}}}}
NODE_CLASS_MAPPINGS = {{"{name}": {name}}}
"""
V3 = """
from comfy_api.latest import ComfyExtension, io
class Text(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="V3Text", display_name="Text!", category="test", is_output_node=True,
            inputs=[io.String.Input("text", default="x"), io.Combo.Input("case", options=["up", "down"])])
    @classmethod
    def execute(cls, text, case):
        return io.NodeOutput(ui={"text": [text.upper() if case == "up" else text]})
class Pack(ComfyExtension):
    async def get_node_list(self):
        return [Text]
"""


def run_tree(tree: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Start it and wait for its end."""
    command = [sys.executable, "main.py", "--quick-test-for-ci", *flags]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60)


def test_boot_says_what_it_is(start: Start) -> None:
    server = start()
    stats = server.get("/api/system_stats")
    assert stats["stand_in"] is True
    assert stats["system"]["comfyui_version"] == "0.3.64"
    assert stats["devices"][0]["type"] == "cpu"
    assert f"To see the GUI go to: http://127.0.0.1:{server.port}\n" in server.text()
    assert "Starting server\n" in server.text()
    assert "0.0 seconds: " in server.text().split("Import times for custom nodes:\n")[1]
    assert b"stand-in" in server.request("GET", "/")[1]


def test_quick_test_exits_zero_even_when_a_pack_fails(tree: Path, add_pack: AddPack) -> None:
    add_pack("broken", {"__init__.py": "import a_module_nobody_declared\n"})
    done = run_tree(tree)
    assert done.returncode == 0
    assert "Starting server" not in done.stderr
    assert (tree / "user" / "comfyui.db").is_file()


def test_unknown_flag_and_missing_user_directory_are_refused(tree: Path) -> None:
    assert run_tree(tree, "--no-such-flag").returncode == 2
    done = run_tree(tree, "--user-directory", str(tree / "nowhere"))
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_failing_packs_are_told_in_the_real_words(tree: Path, add_pack: AddPack) -> None:
    write_pack("import-breaker", tree / "custom_nodes" / "import-breaker")
    add_pack("library", {"__init__.py": ""})
    add_pack("off.disabled", {"__init__.py": "raise SystemExit(3)"})
    add_pack("empty-web", {"__init__.py": "NODE_CLASS_MAPPINGS = {}"})
    log = run_tree(tree).stderr
    packs = tree.resolve() / "custom_nodes"
    assert "Traceback (most recent call last)" in log
    reason = "No module named 'a_module_nobody_declared'"
    assert f"\nCannot import {packs}/import-breaker module for custom nodes: {reason}\n" in log
    why = "due to the lack of NODE_CLASS_MAPPINGS or NODES_LIST (need one).\n"
    assert f"Skip {packs}/library module for custom nodes {why}" in log
    table = log.split("Import times for custom nodes:\n")[1]
    assert f" seconds (IMPORT FAILED): {packs}/import-breaker\n" in table
    assert f" seconds (IMPORT FAILED): {packs}/library\n" in table
    assert f" seconds: {packs}/empty-web\n" in table
    assert "off.disabled" not in log


def test_a_pack_can_end_the_boot(tree: Path) -> None:
    (tree / "segno.py").write_text("__version__ = '1.6.6'\n")
    write_pack("boot-breaker", tree / "custom_nodes" / "boot-breaker")
    done = run_tree(tree)
    assert done.returncode == 1
    assert done.stderr.endswith("boot-breaker: segno 1.6.6 is too old, 99.0 is needed\n")


def test_whitelist_loads_exact_names_only(start: Start, add_pack: AddPack) -> None:
    add_pack("one", {"__init__.py": NODE.format(name="One"), "prestartup_script.py": "print('pre one')"})
    add_pack("two", {"__init__.py": NODE.format(name="Two"), "prestartup_script.py": "raise SystemExit(9)"})
    server = start("--disable-all-custom-nodes", "--whitelist-custom-nodes", "one", "none")
    info = server.get("/object_info")
    assert info["One"]["python_module"] == "custom_nodes.one"
    assert "Two" not in info
    assert "SaveImageWebsocket" not in info
    rest = "due to disable_all_custom_nodes and whitelist_custom_nodes"
    assert f"Skipping two {rest}\n" in server.text()
    assert f"Prestartup Skipping two {rest}\n" in server.text()
    assert "Prestartup times for custom nodes:\n" in server.text()


def test_no_packs_at_all(tree: Path, add_pack: AddPack) -> None:
    add_pack("two", {"__init__.py": "raise SystemExit(9)", "prestartup_script.py": "raise SystemExit(9)"})
    done = run_tree(tree, "--disable-all-custom-nodes")
    assert done.returncode == 0
    assert "Skipping loading of custom nodes\n" in done.stderr


def test_prestartup_runs_before_the_program(tree: Path, add_pack: AddPack) -> None:
    script = "import sys, logging\nlogging.getLogger().warning('early %s', 'nodes' in sys.modules)"
    add_pack("early", {"__init__.py": "NODE_CLASS_MAPPINGS = {}", "prestartup_script.py": script})
    add_pack("bad", {"__init__.py": "NODE_CLASS_MAPPINGS = {}", "prestartup_script.py": "raise ValueError('no')"})
    log = run_tree(tree).stderr
    path = tree.resolve() / "custom_nodes" / "bad"
    assert log.index("early False") < log.index("Python version: ")
    assert f"Failed to execute startup-script: {path}/prestartup_script.py / no\n" in log
    assert f" seconds (PRESTARTUP FAILED): {path}\n" in log


def test_a_failing_core_extra_is_quiet(tree: Path) -> None:
    (tree / "comfy_extras" / "nodes_preview_any.py").write_text("import torchaudio_of_the_stand_in\n")
    done = run_tree(tree)
    assert done.returncode == 0
    assert "WARNING: some comfy_extras/ nodes did not import correctly." in done.stderr
    assert "\nIMPORT FAILED: nodes_preview_any.py\n" in done.stderr
    assert "Please do a: pip install -r requirements.txt\n" in done.stderr


@pytest.mark.parametrize("entry", ["def", "async def"])
def test_v3_packs_load_and_run(start: Start, add_pack: AddPack, entry: str) -> None:
    add_pack("v3", {"__init__.py": f"{V3}\n{entry} comfy_entrypoint():\n    return Pack()\n"})
    server = start()
    info = server.get("/object_info/V3Text")["V3Text"]
    assert (info["python_module"], info["display_name"], info["output_node"]) == (
        "custom_nodes.v3",
        "Text!",
        True,
    )
    entry_ = server.run({"1": {"class_type": "V3Text", "inputs": {"text": "hello", "case": "up"}}})
    assert entry_["outputs"]["1"]["text"] == ["HELLO"]


def test_a_pack_cannot_replace_a_core_class(start: Start, add_pack: AddPack) -> None:
    add_pack("thief", {"__init__.py": NODE.format(name="SaveImage")})
    assert start().get("/object_info/SaveImage")["SaveImage"]["python_module"] == "nodes"


def test_web_files_of_a_pack(start: Start, tree: Path) -> None:
    write_pack("palette", tree / "custom_nodes" / "palette")
    server = start()
    assert server.get("/extensions") == ["/extensions/palette/palette.js"]
    assert b"registerExtension" in server.request("GET", "/extensions/palette/palette.js")[1]
    assert server.request("GET", "/extensions/palette/../__init__.py")[0] == 404
    graph = {
        "1": {
            "class_type": "SolidColour",
            "inputs": {"width": 2, "height": 1, "red": 1, "green": 2, "blue": 3},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }
    assert server.images(server.run(graph), "2")[0].rows == [bytes((1, 2, 3)) * 2]


def test_extra_model_paths_beside_main_and_by_flag(start: Start, tree: Path, tmp_path: Path) -> None:
    for name in ("a/ck/one.safetensors", "b/lo/two.pt", "b/more/three.ckpt", "nodes/far/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(NODE.format(name="Far") if name.endswith(".py") else "x")
    beside = f"# ours\ngov:\n  base_path: {tmp_path}/a\n  is_default: true\n  checkpoints: ck\n"
    (tree / "extra_model_paths.yaml").write_text(beside)
    flagged = "other:\n    base_path: 'b/'\n    checkpoints: |\n        more\n        lo\n\n    new_kind: lo\n"
    (tmp_path / "more.yaml").write_text(flagged + "nodes:\n  custom_nodes: nodes\n")
    server = start("--extra-model-paths-config", str(tmp_path / "more.yaml"))
    assert server.get("/models/checkpoints") == ["one.safetensors", "three.ckpt", "two.pt"]
    assert server.get("/models/new_kind") == ["two.pt"]
    assert "new_kind" in server.get("/models")
    assert server.request("GET", "/models/nothing")[0] == 404
    assert server.get("/object_info/Far")["Far"]["python_module"] == "custom_nodes.far"
    assert f"Adding extra search path checkpoints {tmp_path}/a/ck\n" in server.text()


def test_base_directory_moves_everything_but_the_database(start: Start, tree: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "custom_nodes").mkdir(parents=True)
    (base / "temp").mkdir()
    (base / "temp" / "left-over").write_text("x")
    server = start("--base-directory", str(base), "--database-url", f"sqlite:///{base}/x.db")
    assert not (base / "temp" / "left-over").exists()
    assert (base / "x.db").is_file()
    assert not (tree / "user").exists()
    assert "SaveImageWebsocket" not in server.get("/object_info")


def test_interrupt_signal_stops_it_cleanly(start: Start, tree: Path) -> None:
    server = start()
    assert (tree / "temp").is_dir()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    assert server.text().endswith("\nStopped server\n")
    assert not (tree / "temp").exists()


def test_terminate_signal_kills_it(start: Start) -> None:
    server = start()
    server.process.terminate()
    assert server.process.wait(20) == -signal.SIGTERM


def test_writing_the_trees(tmp_path: Path) -> None:
    write_standin(tmp_path / "c", requirements="numpy<2", version="0.4.0")
    assert (tmp_path / "c" / "requirements.txt").read_text() == "numpy<2\n"
    assert '__version__ = "0.4.0"' in (tmp_path / "c" / "comfyui_version.py").read_text()
    assert (tmp_path / "c" / ".gitignore").is_file()
    assert not list(tmp_path.rglob("__pycache__"))
    assert pack_names() == ["boot-breaker", "import-breaker", "palette", "qr-picture"]
    assert workflow_path("qr").is_file()
    with pytest.raises(ValueError, match="no demo pack"):
        write_pack("../standin", tmp_path / "x")


FAKE_SEGNO = """
class Code:
    def symbol_size(self, scale):
        return scale, scale
    def matrix_iter(self, scale):
        return [[x == y for x in range(scale)] for y in range(scale)]
def make(text, micro):
    return Code()
"""


def test_the_qr_pack_and_its_workflow(start: Start, tree: Path) -> None:
    (tree / "segno.py").write_text(FAKE_SEGNO)
    write_pack("qr-picture", tree / "custom_nodes" / "qr-picture")
    server = start()
    image = server.images(server.run(json.loads(workflow_path("qr").read_text())), "3")[0]
    assert (image.width, image.height) == (8, 8)
    assert image.rows[0] == b"\xff" * 3 + b"\0" * 21
