"""Secrets that a person typed, exported or configured are in no record, log, message or link of a home."""

from __future__ import annotations

import base64
import functools
import os
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.governed import Governed, Ran
from tests.kit.repos import git, make_comfyui

if TYPE_CHECKING:
    from collections.abc import Iterator

URL_SECRET = "urlSecretKestrel41"
ENV_SECRET = "envSecretHeron52"
CONFIG_SECRET = "configSecretOwl63"
OPTION_SECRET = "optionSecretWren74"
QUERY_SECRET = "querySecretRobin85"
SECRETS = (URL_SECRET, ENV_SECRET, CONFIG_SECRET, OPTION_SECRET, QUERY_SECRET)


class PrivateForge(SimpleHTTPRequestHandler):
    """git's dumb protocol behind basic authentication."""

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"me:{URL_SECRET}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.end_headers()
            return
        super().do_GET()

    def log_request(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[str]:
    """The address of a directory `forge` that only the password opens."""
    (tmp_path / "forge").mkdir()
    handler = functools.partial(PrivateForge, directory=str(tmp_path / "forge"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def publish(governed: Governed, name: str, repository: Path) -> None:
    bare = governed.root / "forge" / name
    subprocess.run(["git", "clone", "-q", "--bare", str(repository), str(bare)], check=True)
    git(bare, "update-server-info")


def everything_below(*roots: Path) -> Iterator[tuple[Path, bytes]]:
    for root in roots:
        for folder, _, files in os.walk(root):
            for name in files:
                path = Path(folder) / name
                if path.is_symlink():
                    yield path, os.fsencode(path.readlink())
                elif path.is_file():
                    yield path, path.read_bytes()


def test_no_secret_is_written_down_anywhere(bare: Governed, forge: str) -> None:
    governed = Governed(bare.root, {"MY_API_KEY": ENV_SECRET, "HF_TOKEN": ENV_SECRET, "no_proxy": "127.0.0.1"})
    said: list[Ran] = []

    def gov(*arguments: str) -> Ran:
        said.append(governed.gov(*arguments))
        return said[-1]

    governed.wheels.mkdir()
    make_comfyui(governed.comfyui_source)
    publish(governed, "ComfyUI.git", governed.comfyui_source)
    talker = "import os, sys\nprint(dict(os.environ), file=sys.stderr)\nNODE_CLASS_MAPPINGS = {}\n"
    publish(governed, "pack.git", governed.pack("pack", files={"__init__.py": talker}))
    with_password = f"http://me:{URL_SECRET}@{forge}"
    wheels = ("--find-links", str(governed.wheels))

    gov("init", "--repo", f"{with_password}/ComfyUI.git", *wheels, "--index-url", f"{with_password}/simple").failed(2)
    gov("init", "--repo", f"{with_password}/ComfyUI.git", *wheels, "--index-url", "none").ok()
    config = governed.home / "config.toml"
    written = config.read_text()
    config.write_text(written.replace('index_url = "none"', f'index_url = "http://u:{CONFIG_SECRET}@{forge}/simple"'))
    gov("status").failed(2, "holds credentials")
    command = ["true", "--password", CONFIG_SECRET]
    config.write_text(f"{written}\n[tx]\nsmoke_test_cmd = {command}\n".replace("'", '"'))
    gov("node", "add", f"{with_password}/nowhere.git?private_token={QUERY_SECRET}", "--id", "nowhere")
    gov("node", "add", f"{with_password}/pack.git").ok()
    gov("tx", "run", "pack").ok()
    gov("tx", "inspect", "1").ok()
    gov("tx", "promote", "1", "--reason", f"as {ENV_SECRET} said").ok()
    reason = f"see {with_password}/ticket?token={QUERY_SECRET} --api-token {OPTION_SECRET}"
    gov("node", "remove", "pack", "--purge-code").ok()
    gov("rollback", "1", "--reason", reason).ok()
    gov("snapshot", "create", "--reason", f"--hf-token={OPTION_SECRET}").ok()
    gov("node", "show", f"http://me:{URL_SECRET}@h/x").failed(2)
    gov("audit", "-n", "0").ok()
    gov("--json", "status").ok()

    found = {
        f"{path.relative_to(governed.root)}: {secret}"
        for path, data in everything_below(governed.home, governed.root / "cache", governed.root / "user")
        for secret in SECRETS
        if secret.encode() in data and path != config
    }
    assert not found
    told = {secret for ran in said for secret in SECRETS if secret in ran.stdout + ran.stderr}
    assert not told
