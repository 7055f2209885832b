"""The whole life on a real ComfyUI; what it needs is in docs/07_test_strategy_and_acceptance.md."""

from __future__ import annotations

import os
import random
import shlex
import struct
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comfygov.model.names import id_from_source
from comfygov.ports.comfy_api import ComfyApi, free_port
from tests.faults.test_random_kills import kill
from tests.kit.checker import problems
from tests.kit.governed import Governed

if TYPE_CHECKING:
    from collections.abc import Iterator

COMFYUI = os.environ.get("COMFYGOV_TEST_COMFYUI", "")
PACKS = shlex.split(os.environ.get("COMFYGOV_TEST_PACKS", ""))
INIT = shlex.split(os.environ.get("COMFYGOV_TEST_INIT", "--constraint torch==2.11.* --require requests"))
BOOT_SECONDS = 600
KILLS = 15

pytestmark = [
    pytest.mark.real_comfyui,
    pytest.mark.skipif(not COMFYUI, reason="COMFYGOV_TEST_COMFYUI names no repository"),
    pytest.mark.skipif(len(PACKS) < 2, reason="COMFYGOV_TEST_PACKS must name at least two packs"),
]

INVERT: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 0x102030}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "governed"}},
}


class RealHome(Governed):
    """uv's own cache stays the user's: 5 GB need not be fetched again."""

    def environment(self) -> dict[str, str]:
        made = super().environment()
        made.pop("UV_CACHE_DIR")
        made["HOME"] = os.environ["HOME"]
        return made

    def timed(self, *arguments: str) -> Any:
        """The data of a command, its time printed (pytest -s)."""
        started = time.monotonic()
        ran = self.gov("--json", *arguments, timeout=1800).ok()
        print(f"{time.monotonic() - started:7.2f} s  gov {shlex.join(arguments)}")
        return ran.data


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    home = RealHome(tmp_path_factory.mktemp("real"))
    made = home.timed("init", "--repo", COMFYUI, *INIT)
    assert made["baseline"]["core_failures"] == [], "a real ComfyUI whose own modules all import"
    return home


def production(home: RealHome) -> Iterator[ComfyApi]:
    port = free_port()
    home.timed("run", "--detach", "--", "--port", str(port))
    try:
        yield ComfyApi("127.0.0.1", port, 120)
    finally:
        home.timed("stop")


def modules(home: RealHome) -> set[str]:
    """`python_module` of everything that production registers, and one inverted picture on the way."""
    for api in production(home):
        classes = api.object_info()
        api.submit(INVERT, f"test-{time.monotonic_ns()}")
        assert_inverted(picture_of(api))
        return {str(schema["python_module"]) for schema in classes.values()}
    raise AssertionError("production did not start")


def picture_of(api: ComfyApi) -> bytes:
    prompt_id = f"picture-{time.monotonic_ns()}"
    api.submit(
        {**INVERT, "3": {**INVERT["3"], "inputs": {**INVERT["3"]["inputs"], "filename_prefix": prompt_id}}}, prompt_id
    )
    image = api.result(prompt_id, 120)["outputs"]["3"]["images"][0]
    return api.view(image["filename"], image["subfolder"], image["type"])


def assert_inverted(png: bytes) -> None:
    """Every pixel is 255 minus 0x10, 0x20, 0x30 (ComfyUI rounds down; one step is allowed)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert (width, height, depth, colour) == (64, 32, 8, 2)
    at, data = 8, b""
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += size + 12
    raw = zlib.decompress(data)
    # One colour: after any PNG filter the first pixel of the first row stands as it is.
    assert all(abs(found - wanted) <= 1 for found, wanted in zip(raw[1:4], (239, 223, 207), strict=True))


def frozen(home: RealHome) -> set[str]:
    return home.installed()


def test_the_whole_life(real: RealHome) -> None:
    names = [id_from_source(source) for source in PACKS]
    states: list[tuple[str, bytes, set[str]]] = []
    for source, name in zip(PACKS, names, strict=True):
        real.timed("node", "add", source)
        states.append((real.head(), (real.home / "uv.lock").read_bytes(), frozen(real)))
        tx = real.timed("tx", "run", name)["transaction"]
        assert tx["status"] == "completed", tx["gates"]
        promoted = real.timed("tx", "promote", tx["txid"], "--approve-core", "--reason", "test")
        assert promoted["transaction"]["status"] == "promoted"
    loaded = modules(real)
    assert {f"custom_nodes.{name}" for name in names} <= loaded
    newest = real.head()

    before_second, lock, packages = states[1]
    real.timed("rollback", before_second)
    assert (real.home / "uv.lock").read_bytes() == lock
    assert frozen(real) == packages
    loaded = modules(real)
    assert f"custom_nodes.{names[0]}" in loaded
    assert not {f"custom_nodes.{name}" for name in names[1:]} & loaded

    real.timed("rollback", newest)
    assert {f"custom_nodes.{name}" for name in names} <= modules(real)
    assert real.timed("status")["drift"] == []


def test_a_pack_that_breaks_the_boot_leaves_production_alone(real: RealHome, tmp_path: Path) -> None:
    before = real.world()
    breaker = real.pack("breaker", files={"__init__.py": "import os\nos._exit(3)\n"})
    real.gov("node", "add", str(breaker)).ok()
    ran = real.gov("tx", "run", "breaker", timeout=BOOT_SECONDS).failed(1, "ended while it started")
    assert "may not be promoted" in ran.stdout
    real.gov("tx", "abort", real.json("tx", "list")["transactions"][-1]["txid"]).ok()
    real.gov("node", "remove", "breaker", "--purge-code").ok()
    after = real.world()
    assert {**after, "head": ""} == {**before, "head": ""}


def test_kills_at_random_times_leave_whole_states(real: RealHome) -> None:
    """As tests/faults does on the stand-in, with 40 000 files in each environment."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    name = id_from_source(PACKS[0])
    oldest, newest = "1", real.head()
    commands = [("rollback", oldest), ("rollback", newest), ("node", "remove", name), ("tx", "run", name), ("gc",)]
    for _ in range(KILLS):
        real.gov("rollback", newest).ok()
        command = chance.choice(commands)
        child = real.start(*command)
        time.sleep(chance.uniform(0.05, 12 if command[0] == "tx" else 1.5))
        kill(child, with_children=chance.random() < 0.5)
        real.gov("gc", timeout=BOOT_SECONDS).ok()
        found = problems(real.home, {}, environment=False)
        assert not found, (command, found)
        real.gov("verify", timeout=BOOT_SECONDS).ok()
    real.gov("verify", "--deep", timeout=BOOT_SECONDS).ok()
    real.timed("rollback", newest)
    assert f"custom_nodes.{name}" in modules(real)
