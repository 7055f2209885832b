"""`gov init --install-torch`: torch comes from PyTorch's own index, everything else from the main one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from comfygov.truth.declaration import PYTORCH_INDEX_VARIABLE
from tests.kit.indexes import serving
from tests.kit.repos import make_comfyui

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.governed import Governed


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[str]:
    """A main index and PyTorch's."""
    wheels = (("main", "torch", "2.11.0"), ("main", "plain", "1.0"), ("cpu", "torch", "2.11.0+cpu"))
    with serving(tmp_path / "indexes", wheels) as address:
        yield address


def test_the_cpu_build_comes_from_its_own_index(bare: Governed, indexes: str) -> None:
    make_comfyui(bare.comfyui_source, "torch\nplain\n")
    bare.env[PYTORCH_INDEX_VARIABLE] = indexes
    options = ("--repo", str(bare.comfyui_source), "--index-url", f"{indexes}/main")
    bare.gov("init", *options, "--install-torch", "cpu").ok()
    assert bare.installed() == {"torch-2.11.0+cpu", "plain-1.0"}
    assert 'torch_backends = ["cpu"]' in (bare.home / "config.toml").read_text()


def test_a_build_that_is_none_is_refused(bare: Governed) -> None:
    make_comfyui(bare.comfyui_source)
    bare.gov("init", "--repo", str(bare.comfyui_source), "--install-torch", "cuda").failed(2, "is no torch build")


def test_an_address_with_a_password_is_not_stored(bare: Governed) -> None:
    make_comfyui(bare.comfyui_source)
    ran = bare.gov("init", "--repo", str(bare.comfyui_source), "--index-url", "https://me:hunter2@127.0.0.1:1/simple")
    ran.failed(2, "holds credentials")
    assert "hunter2" not in ran.stderr
    assert not bare.home.exists()
