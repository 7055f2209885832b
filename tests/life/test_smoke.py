"""Smoke workflows of a trial: held against what production gave, and against what is declared."""

from __future__ import annotations

import json
from typing import Any

from tests.kit.governed import Governed
from tests.kit.repos import PACK
from tests.unit.test_png import packed

WORKFLOW = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 2, "height": 2, "batch_size": 2, "color": 0x102030}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "smoke"}},
}
LESS = """
import nodes
plain = nodes.NODE_CLASS_MAPPINGS["SaveImage"]
class Less(plain):
    def save_images(self, images, *rest, **named):
        return super().save_images(images[:1], *rest, **named)
nodes.NODE_CLASS_MAPPINGS["SaveImage"] = Less
"""


def with_workflow(home: Governed, expected: dict[str, Any] | None = None) -> None:
    (home.home / "smoke.json").write_text(json.dumps(WORKFLOW))
    if expected is not None:
        (home.home / "smoke.expect.json").write_text(json.dumps(expected))
    config = home.home / "config.toml"
    config.write_text(f'{config.read_text()}\n[tx]\nsmoke_workflows = ["smoke.json"]\n')


def gate(home: Governed, name: str) -> dict[str, Any]:
    tx = home.gov("--json", "tx", "run", name).data["transaction"]
    found: dict[str, Any] = next(gate for gate in tx["gates"] if gate["name"] == "smoke_workflow")
    return found


def test_other_outputs_than_production_gave_are_a_failure(governed: Governed) -> None:
    with_workflow(governed)
    governed.promote_pack("first")
    less = governed.pack("less", files={"__init__.py": LESS + PACK % {"name": "less"}})
    governed.gov("node", "add", str(less)).ok()
    found = gate(governed, "less")
    assert found["verdict"] == "fail"
    assert found["evidence"] == ["node 2: 1 images, expected are 2"]


def test_what_is_declared_is_held(governed: Governed) -> None:
    (governed.home / "want.png").write_bytes(
        packed(b"\0" + b"\x10\x20\x31" * 2 + b"\0" + b"\x10\x20\x30" * 2, width=2, height=2)
    )
    picture = {"node": "2", "number": 1, "file": "want.png", "tolerance": 0.01}
    with_workflow(governed, {"outputs": {"2": {"images": 2}}, "pictures": [picture]})
    governed.gov("node", "add", str(governed.pack("plain"))).ok()
    assert gate(governed, "plain")["verdict"] == "pass"
    (governed.home / "want.png").write_bytes(packed((b"\0" + b"\xff" * 6) * 2, width=2, height=2))
    expected = {"outputs": {"2": {"images": 2}, "3": {"audio": 1}}, "pictures": [picture, {**picture, "node": "9"}]}
    (governed.home / "smoke.expect.json").write_text(json.dumps(expected))
    found = gate(governed, "plain")
    assert found["verdict"] == "fail"
    assert found["evidence"][0] == "node 3: 0 audio, expected are 1"
    assert "differs from want.png by 0.8" in found["evidence"][1]
    assert found["evidence"][2] == "node 9, image 1: there is none"
    (governed.home / "smoke.expect.json").write_text('{"picture": []}')
    assert "cannot be read" in gate(governed, "plain")["reason"]
