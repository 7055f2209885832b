"""`gov init --install-torch`: torch comes from PyTorch's own index, everything else from the main one."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfygov.truth.declaration import PYTORCH_INDEX_VARIABLE
from tests.kit.repos import make_comfyui
from tests.kit.wheels import add_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.governed import Governed


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[str]:
    """A main index and PyTorch's, as static directories on loopback (the simple repository API)."""
    root = tmp_path / "indexes"
    for place, name, version in (("main", "torch", "2.11.0"), ("main", "plain", "1.0"), ("cpu", "torch", "2.11.0+cpu")):
        directory = root / place / name
        wheel = add_wheel(directory, name, version)
        (directory / "index.html").write_text(f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


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
