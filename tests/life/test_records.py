"""`gov tx run --from FILE`, `gov node add ID`: the records of other tools as a plan; a stand-in plays the registry."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.governed import Governed
from tests.kit.repos import PACK, commit_all, git, make_pack

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Registry:
    """Plays the node registry: `packs` maps an id to its versions, oldest first, each with a status and an archive."""

    packs: dict[str, dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def publish(self, name: str, version: str, files: dict[str, str], status: str = "Active") -> str:
        """Returns the sha256 of the archive."""
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for file, text in files.items():
                archive.writestr(file, text)
        data = target.getvalue()
        self.packs.setdefault(name, {})[version] = (f"NodeVersionStatus{status}", data)
        return "sha256:" + hashlib.sha256(data).hexdigest()

    def answer(self, path: str) -> bytes | None:
        words = path.strip("/").split("/")
        self.asked.append(path)
        if words[0] == "archives":
            return self.packs[words[1]][words[2]][1]
        known = self.packs.get(words[1])
        if known is None or (len(words) == 4 and words[3] not in known):
            return None
        listed = [self.version(words[1], version) for version in reversed(known)]
        if len(words) == 2:
            return json.dumps({"id": words[1], "latest_version": listed[0]}).encode()
        return json.dumps(listed if len(words) == 3 else self.version(words[1], words[3])).encode()

    def version(self, name: str, version: str) -> dict[str, str]:
        status = self.packs[name][version][0]
        return {
            "version": version,
            "status": status,
            "downloadUrl": f"{self.address}/archives/{name}/{version}/node.zip",
        }


@pytest.fixture
def registry(governed: Governed) -> Iterator[Registry]:
    played = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = played.answer(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_words: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played.address = f"http://127.0.0.1:{server.server_port}"
    governed.env["COMFYGOV_NODE_REGISTRY"] = played.address
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield played
    server.shutdown()
    server.server_close()


def pack(name: str, **more: str) -> dict[str, str]:
    return {"__init__.py": PACK % {"name": name}, "pyproject.toml": '[project]\nname = "p"\n', **more}


def plugin(home: Governed, name: str) -> dict[str, Any]:
    found: dict[str, Any] = home.json("node", "show", name)["plugin"]
    return found


def test_a_pack_of_the_registry_lives_like_any_other(governed: Governed, registry: Registry) -> None:
    governed.wheel("extra", "1.0")
    first = registry.publish("some-pack", "1.0.0", pack("one", **{"requirements.txt": "extra\n"}))
    added = governed.json("node", "add", "some-pack@1.0.0")
    assert added["plugin"]["archive"] == first
    assert added["plugin"]["source"] == "registry:some-pack"
    assert added["declared"] == ["extra"]
    governed.gov("tx", "promote", governed.json("tx", "run", "some-pack")["transaction"]["txid"]).ok()
    second = registry.publish("some-pack", "1.1.0", pack("two"))
    (row,) = governed.json("outdated")["packs"]
    assert row["outdated"]
    governed.gov("tx", "promote", governed.json("tx", "run", "some-pack@1.1.0")["transaction"]["txid"]).ok()
    assert plugin(governed, "some-pack")["archive"] == second
    code = governed.home / "ComfyUI" / "custom_nodes" / "some-pack" / "__init__.py"
    assert '"two"' in code.read_text()
    governed.gov("version", "create", "one").ok()
    other = Governed(governed.root, {**governed.env, "COMFYGOV_CACHE": str(governed.root / "other-cache")})
    registry.publish("some-pack", "1.2.0", pack("three"))
    cloned = other.json("version", "clone", "one", "--target", str(governed.root / "clone"))
    assert cloned["identical"], "a machine without the archive finds it by the commit of its files"
    governed.gov("rollback", "3").ok()
    assert '"one"' in code.read_text()
    assert not [path for path in registry.asked if path.endswith("/install")]


def test_what_the_registry_does_not_give_is_said(governed: Governed, registry: Registry, tmp_path: Path) -> None:
    registry.publish("bad", "1.0.0", pack("bad"), status="Banned")
    registry.publish("climber", "1.0.0", {"../../../out.py": "", **pack("climber")})
    governed.gov("node", "add", "bad").failed(2, "is banned in the node registry")
    governed.gov("node", "add", "registry:nowhere").failed(2, "the node registry knows no `nowhere`")
    governed.gov("node", "add", "nowhere").failed(2, "neither a git URL nor a directory")
    governed.gov("node", "add", "climber").failed(2, "leaves it")
    governed.env["COMFYGOV_NODE_REGISTRY"] = "http://127.0.0.1:9"
    governed.gov("node", "add", "registry:bad@2.0").failed(5, "does not answer")
    assert governed.json("node", "list")["plugins"] == []


def manager(home: Governed, packs: dict[str, Any], **more: Any) -> dict[str, Any]:
    commit = git(home.home / "ComfyUI", "rev-parse", "HEAD")
    return {
        "comfyui": f"{commit}\n",
        "git_custom_nodes": packs,
        "cnr_custom_nodes": {},
        "file_custom_nodes": [{"filename": "x.py", "disabled": False}],
        "pips": {"basis==0.1": "", "own": "git+https://example.org/own"},
        **more,
    }


def test_a_snapshot_of_the_manager_is_tried(governed: Governed, registry: Registry, tmp_path: Path) -> None:
    alpha, beta, off = (make_pack(tmp_path / "up" / name) for name in ("alpha", "beta", "off"))
    old = git(alpha, "rev-parse", "HEAD")
    governed.promote_pack("stays")
    (alpha / "__init__.py").write_text(PACK % {"name": "newer"})
    commit_all(alpha)
    registry.publish("some-pack", "1.0.0", pack("reg"))
    registry.publish("some-pack", "2.0.0", pack("regnew"))
    packs = {
        f"file://{alpha}": {"hash": f"{old}\n", "disabled": False},
        f"file://{beta}": {"hash": "unknown", "disabled": False},
        f"file://{off}": {"hash": git(off, "rev-parse", "HEAD"), "disabled": True},
        "https://127.0.0.1:9/o/gone.git": {"hash": "1" * 40, "disabled": False},
    }
    record = tmp_path / "snapshot.json"
    record.write_text(json.dumps(manager(governed, packs, cnr_custom_nodes={"some-pack": "1.0.0"})))
    ran = governed.gov("--json", "tx", "run", "--from", str(record)).ok()
    moves = {move["id"]: move["after"] for move in ran.data["transaction"]["nodes"]}
    assert moves.keys() == {"alpha", "beta", "some-pack"}
    assert moves["alpha"] == old
    said = json.dumps(ran.envelope["findings"])
    for words in ("x.py", "2 packages", "are not forced", "`unknown`", "gone", "is not in the record, and stays"):
        assert words in said, words
    governed.gov("tx", "promote", ran.data["transaction"]["txid"]).ok()
    assert {name for name in ("alpha", "beta", "some-pack", "stays") if plugin(governed, name)["enabled"]} == {
        "alpha", "beta", "some-pack", "stays",
    }  # fmt: skip
    assert not plugin(governed, "off")["promoted"]
    assert "basis-1.0" in governed.installed()
    again = governed.gov("tx", "run", "--from", str(record))
    assert again.exit_code in (0, 1), again


def test_the_yaml_form_and_the_records_of_others(governed: Governed, registry: Registry, tmp_path: Path) -> None:
    alpha = make_pack(tmp_path / "up" / "alpha")
    commit = git(alpha, "rev-parse", "HEAD")
    yaml = tmp_path / "snapshot.yaml"
    yaml.write_text(
        f"comfyui: unknown\ncustom_nodes:\n  git_custom_nodes:\n    file://{alpha}:\n      hash: {commit}\n"
        "      disabled: false\n  cnr_custom_nodes: {}\n  file_custom_nodes: []\npips: {}\n"
    )
    ran = governed.gov("--json", "tx", "run", "--from", str(yaml)).ok()
    assert [move["after"] for move in ran.data["transaction"]["nodes"]] == [commit]
    governed.gov("tx", "promote", ran.data["transaction"]["txid"]).ok()
    registry.publish("reg", "1.0.0", pack("reg"))
    node = {
        "type": "git",
        "id": "alpha",
        "dirName": "alpha",
        "url": f"file://{alpha}",
        "commit": commit,
        "enabled": True,
    }
    other = {"type": "cnr", "id": "reg", "dirName": "reg", "version": "1.0.0", "enabled": True}
    shot = {"createdAt": "2026-01-02", "comfyui": {"ref": "master", "commit": None}, "customNodes": [node, other],
            "pipPackages": {"torch": "2.1"}, "pythonVersion": "3.12.1"}  # fmt: skip
    old = {**shot, "createdAt": "2025-01-01", "customNodes": []}
    desktop = tmp_path / "desktop.json"
    desktop.write_text(json.dumps({"type": "comfyui-desktop-2-snapshot", "version": 2, "snapshots": [shot, old]}))
    ran = governed.gov("--json", "tx", "run", "--from", str(desktop)).ok()
    assert [move["id"] for move in ran.data["transaction"]["nodes"]] == ["reg"], "alpha is there already"
    said = json.dumps(ran.envelope["findings"])
    for words in ("2 snapshots", "3.12.1", "torch==2.1", "stays where it is"):
        assert words in said, words
    build = tmp_path / "comfy-build.yaml"
    build.write_text(
        "schema: comfy-build/1\nname: t\ndefinition:\n  baseComfyVersion: ''\n  customNodes:\n"
        f"  - {{name: alpha, repository: 'file://{alpha}', gitRef: main, source: git}}\n"
        "  - {name: mine, source: local, localPath: /x}\n  models: [{type: x, filename: a.safetensors}]\n"
        "  pipDependencies: |+\n    numpy==1.26.4\n"
    )
    ran = governed.gov("--json", "tx", "run", "--from", str(build)).ok()
    assert [move["id"] for move in ran.data["transaction"]["nodes"]] == ["alpha"]
    said = json.dumps(ran.envelope["findings"])
    for words in ("a.safetensors", "local folder", "numpy==1.26.4"):
        assert words in said, words


NO_RECORDS = ("{}", "[]", "", "a: [", "schema: comfy-build/1", '{"git_custom_nodes": 1}')


@pytest.mark.parametrize("text", [*NO_RECORDS, '{"git_custom_nodes": {"--x": {"hash": 3}}}'])
def test_what_is_no_record(governed: Governed, tmp_path: Path, text: str) -> None:
    record = tmp_path / "record.yaml"
    record.write_text(text)
    governed.gov("tx", "run", "--from", str(record)).failed(2)


def test_a_record_may_come_from_anybody(governed: Governed, tmp_path: Path) -> None:
    packs = {
        "--upload-pack=touch x": {"hash": "1" * 40, "disabled": False},
        "ext::sh -c id": {"hash": "--x", "disabled": False},
        "https://example.org/../../x": {"hash": None, "disabled": True},
    }
    record = tmp_path / "snapshot.json"
    record.write_text(
        json.dumps(manager(governed, packs, cnr_custom_nodes={"../../x": "1", "a": "--x"}, comfyui="--x"))
    )
    ran = governed.gov("tx", "run", "--from", str(record)).failed(1, "there is nothing to try")
    assert ran.stderr.count("is not taken") >= 4
    assert not (tmp_path / "x").exists()
