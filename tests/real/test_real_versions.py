"""A version of a real ComfyUI with real packs: made, cloned, proven, booted, carried without a network, made again.

What it needs is in docs/07_test_strategy_and_acceptance.md.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from comfygov.model.names import id_from_source
from tests.kit.governed import Governed
from tests.real.test_real_comfyui import COMFYUI, INIT, PACKS, RealHome, production

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.real_comfyui,
    pytest.mark.skipif(not COMFYUI, reason="COMFYGOV_TEST_COMFYUI names no repository"),
    pytest.mark.skipif(len(PACKS) < 2, reason="COMFYGOV_TEST_PACKS must name at least two packs"),
]

LONG_AGO = "2025-10-12"
PICTURE: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 96, "height": 64, "batch_size": 1, "color": 0x80FF20}},
    "2": {"class_type": "ImagePadForOutpaint",
          "inputs": {"image": ["1", 0], "left": 16, "top": 8, "right": 8, "bottom": 16, "feathering": 6}},
    "3": {"class_type": "ImageBlur", "inputs": {"image": ["2", 0], "blur_radius": 5, "sigma": 2.0}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "proof"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    """A home with every pack in production, and its version `one`."""
    studio = RealHome(tmp_path_factory.mktemp("versions"))
    studio.timed("init", "--repo", COMFYUI, *INIT)
    for source in PACKS:
        studio.timed("node", "add", source)
        txid = studio.timed("tx", "run", id_from_source(source))["transaction"]["txid"]
        studio.timed("tx", "promote", txid, "--approve-core", "--reason", "test")
    studio.timed("version", "create", "one")
    return studio


class At(RealHome):
    """The same machine, another home."""

    @property
    def home(self) -> Path:
        return self.root / self.env["COMFY_HOME"]


def at(studio: RealHome, home: Path) -> At:
    return At(studio.root, {**studio.env, "COMFY_HOME": str(home)})


def drawn(home: RealHome) -> tuple[bytes, set[str]]:
    """The picture of the workflow, and the names of all node classes."""
    for api in production(home):
        classes = set(api.object_info())
        api.submit(PICTURE, "proof")
        result = api.result("proof", 300)
        image = result["outputs"]["4"]["images"][0]
        return api.view(image["filename"], image["subfolder"], image["type"]), classes
    raise AssertionError("production did not start")


def test_clones_are_identical_boot_and_draw_the_same_picture(studio: RealHome) -> None:
    pictures = [drawn(studio)]
    for name in ("one", "two"):
        target = studio.root / f"clone-{name}"
        assert studio.timed("version", "clone", "one", "--target", str(target))["identical"]
        assert at(studio, target).timed("version", "verify", str(studio.home / "lockfiles/comfy-one.lock.json"))[
            "identical"
        ]
        pictures.append(drawn(at(studio, target)))
    assert pictures[0][0][:8] == b"\x89PNG\r\n\x1a\n"
    assert {name for _, classes in pictures for name in classes} == pictures[0][1]
    assert len({picture for picture, _ in pictures}) == 1


def test_a_bundle_is_enough_without_a_network(studio: RealHome) -> None:
    """In a network namespace of its own, with empty caches of comfygov and of uv."""
    file, target = studio.root / "one.bundle", studio.root / "offline"
    assert studio.timed("version", "bundle", "one", "-o", str(file))["missing"] == []
    empty = {"COMFYGOV_CACHE": str(studio.root / "empty"), "UV_CACHE_DIR": str(studio.root / "empty-uv")}
    alone = Alone(studio.root, {**studio.env, **empty}, ("unshare", "--map-root-user", "--net"))
    if subprocess.run([*alone.prefix, "true"], check=False).returncode != 0:
        pytest.skip("no network namespaces here")
    found = alone.timed("version", "clone", "--lock", str(file), "--target", str(target), "--offline")
    assert found["identical"]
    assert at(studio, target).installed() == studio.installed()
    shutil.rmtree(studio.root / "empty-uv")


class Alone(RealHome):
    """With its own cache of uv."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.env}


def test_what_is_made_as_of_a_day_is_made_again(tmp_path: Path) -> None:
    words = ("version", "create", "--name", "then", "--comfy-repo", COMFYUI, "--as-of", LONG_AGO)
    nodes = [word for source in PACKS for word in ("--custom-node", f"repo={source},name={id_from_source(source)}")]
    locks = []
    for number in (1, 2):
        maker = Again(tmp_path, {"COMFYGOV_CACHE": str(tmp_path / f"cache-{number}")})
        lock = tmp_path / f"{number}.lock.json"
        maker.timed(*words, *nodes, "--output", str(lock))
        locks.append(json.loads(lock.read_bytes()))
    assert locks[0] == locks[1]
    torch = [p["version"] for p in locks[0]["python"]["packages"] if p["name"] == "torch"]
    assert torch == ["2.8.0"], "the newest torch of that day"


class Again(RealHome):
    """A maker that knows nothing of the last time."""

    def environment(self) -> dict[str, str]:
        return {**Governed.environment(self), "UV_CACHE_DIR": f"{self.env['COMFYGOV_CACHE']}-uv"}
