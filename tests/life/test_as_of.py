"""`gov init --as-of`: an index as it was, so that an old ComfyUI gets the packages of its time."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.repos import git, make_comfyui
from tests.kit.wheels import add_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.governed import Governed

RELEASES = {"1.0": "2025-01-01T00:00:00Z", "2.0": "2025-06-01T12:00:00Z", "3.0": "2026-01-01T00:00:00Z"}


class Index(SimpleHTTPRequestHandler):
    """The JSON form of the simple API (PEP 691), with upload times (PEP 700)."""

    def do_GET(self) -> None:
        if not self.path.startswith("/simple/"):
            super().do_GET()
            return
        name = self.path.split("/")[2]
        files = [
            {
                "filename": wheel.name,
                "url": f"/files/{wheel.name}",
                "hashes": {},
                "upload-time": RELEASES[wheel.name.split("-")[1]],
            }
            for wheel in sorted(Path(self.directory, "files").glob(f"{name}-*.whl"))
        ]
        body = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files, "versions": list(RELEASES)})
        self.send_response(200 if files else 404)
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    for version in RELEASES:
        add_wheel(tmp_path / "index" / "files", "thing", version)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=str(tmp_path / "index")))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    thread.join()
    server.server_close()


def init(bare: Governed, index: str, *options: str) -> None:
    make_comfyui(bare.comfyui_source, "thing\n")
    os.environ["GIT_COMMITTER_DATE"] = "2025-07-01T12:00:00+02:00"
    try:
        git(bare.comfyui_source, "commit", "--amend", "--no-edit", "-q")
    finally:
        del os.environ["GIT_COMMITTER_DATE"]
    bare.gov("init", "--repo", str(bare.comfyui_source), "--index-url", index, *options).ok()


def test_without_it_the_newest_comes(bare: Governed, index: str) -> None:
    init(bare, index)
    assert bare.installed() == {"thing-3.0"}


def test_as_of_the_commit_of_comfyui(bare: Governed, index: str) -> None:
    init(bare, index, "--as-of", "commit")
    assert bare.installed() == {"thing-2.0"}
    assert 'exclude_newer = "2025-07-01T10:00:00Z"' in (bare.home / "config.toml").read_text()
    bare.gov("init", "--as-of", "commit").ok()
    bare.gov("init", "--as-of", "2025-01-01").failed(1, "another --as-of would change it untried")
    # What comes later is of that time too, until the setting goes.
    assert bare.json("tx", "run", "--upgrade", "thing")["transaction"]["diff"]["changed"] == []
    config = bare.home / "config.toml"
    config.write_text(config.read_text().replace('exclude_newer = "2025-07-01T10:00:00Z"\n', ""))
    changed = bare.json("tx", "run", "--upgrade", "thing")["transaction"]["diff"]["changed"]
    assert changed == [{"name": "thing", "before": "2.0", "after": "3.0"}]


@pytest.mark.parametrize(
    ("when", "version"), [("2025-05-31", "1.0"), ("2025-06-01", "2.0"), ("2025-06-01T12:30:00+00:00", "2.0")]
)
def test_as_of_a_date(bare: Governed, index: str, when: str, version: str) -> None:
    init(bare, index, "--as-of", when)
    assert bare.installed() == {f"thing-{version}"}


def test_what_is_no_date_is_said(bare: Governed) -> None:
    make_comfyui(bare.comfyui_source)
    bare.gov("init", "--repo", str(bare.comfyui_source), "--as-of", "yesterday").failed(2, "is no date", "commit")
    assert not bare.home.exists()
