"""Documents on disk and their index."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.errors import Code
from comfygov.model.config import Config
from comfygov.model.state import Head, Plugin, Registry, SnapshotMeta
from comfygov.truth import store
from comfygov.truth.home import Home
from comfygov.truth.snapshots import Snapshots

from .conftest import Refused

HEAD = Head("0001-init", "abc", "2026-11-21T20:15:00Z")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLUGINS = st.builds(Plugin, id=TEXTS, source=TEXTS, commit=TEXTS, tree=TEXTS, group=TEXTS, ref=st.none() | TEXTS)


@given(st.lists(PLUGINS, max_size=3).map(lambda found: Registry(tuple(found))))
def test_a_document_is_read_as_it_was_written(registry: Registry) -> None:
    data = store.encode(registry)
    read = store.decode(Path("plugins.json"), data, Registry)
    assert read == registry
    assert store.encode(read) == data
    assert data.endswith(b"}\n")


def test_a_field_of_a_later_release_is_not_minded(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    path.write_bytes(store.encode({**msgspec.to_builtins(HEAD), "later": [1]}))
    assert store.load(path, Head) == HEAD


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"snapshot": 3}', b'{"schema_version": "x"}']
)
def test_damaged_json_names_the_file(tmp_path: Path, data: bytes, refused: Refused) -> None:
    path = tmp_path / "head.json"
    path.write_bytes(data)
    with refused(Code.HOME_DAMAGED) as caught:
        store.load(path, Head)
    assert str(path) in caught.value.message


def test_a_newer_format_that_does_not_fit_is_called_newer_and_not_damaged(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "head.json"
    path.write_bytes(b'{"schema_version": 2, "snapshots": ["x"]}')
    with refused(Code.HOME_NEWER) as caught:
        store.load(path, Head)
    assert "format 2" in caught.value.message


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path, refused: Refused) -> None:
    with refused(Code.NOT_FOUND):
        store.load(tmp_path / "head.json", Head)


class Files:
    """Some records, and a reader that counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read: list[str] = []

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def entries(self, *names: str) -> dict[str, str]:
        self.read = []
        files = [(name, str(self.root / name)) for name in names]
        return store.Index(self.root / "index.json", self.root, str).entries(lambda: files, self._read)

    def _read(self, path: str) -> str:
        self.read.append(Path(path).name)
        return Path(path).read_text()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.write("a", "one")
    made.write("b", "two")
    return made


def test_an_index_saves_the_second_reading(files: Files) -> None:
    assert files.entries("a", "b") == {"a": "one", "b": "two"}
    assert files.read == ["a", "b"]
    assert files.entries("a", "b") == {"a": "one", "b": "two"}
    assert files.read == []


def test_another_size_or_another_time_is_read_again(files: Files) -> None:
    files.entries("a", "b")
    at = (files.root / "a").stat().st_mtime_ns
    files.write("a", "longer")
    os.utime(files.root / "a", ns=(at, at))
    assert files.entries("a", "b")["a"] == "longer"
    assert files.read == ["a"]
    files.write("b", "six")
    os.utime(files.root / "b", ns=(at + 1, at + 1))
    assert files.entries("a", "b")["b"] == "six"
    assert files.read == ["b"]


def test_a_directory_that_settled_is_not_looked_into_again(files: Files, tmp_path: Path) -> None:
    index = store.Index(tmp_path.parent / f"{tmp_path.name}.json", tmp_path, str)
    os.utime(tmp_path, ns=(1, 1))
    assert index.entries(lambda: [("a", str(files.root / "a"))], files._read) == {"a": "one"}

    def nobody_asks() -> list[tuple[str, str]]:
        raise AssertionError("the directory has not changed")

    assert index.entries(nobody_asks, files._read) == {"a": "one"}
    files.write("new", "x")
    assert index.entries(lambda: [("new", str(files.root / "new"))], files._read) == {"new": "x"}


def test_a_file_that_went_leaves_the_index(files: Files) -> None:
    files.entries("a", "b")
    (files.root / "a").unlink()
    assert files.entries("a", "b") == {"b": "two"}
    assert b"one" not in (files.root / "index.json").read_bytes()


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"a": [[1, 2], 3]}', b"\xff", b'{"a": 1}', None])
def test_a_lost_or_damaged_index_is_made_again(files: Files, damage: bytes | None) -> None:
    files.entries("a", "b")
    index = files.root / "index.json"
    index.unlink() if damage is None else index.write_bytes(damage)
    assert files.entries("a", "b") == {"a": "one", "b": "two"}
    assert files.read == ["a", "b"]
    files.entries("a", "b")
    assert files.read == []


def test_an_index_that_cannot_be_written_is_no_error(files: Files) -> None:
    (files.root / "index.json").mkdir()
    assert files.entries("a") == {"a": "one"}


def test_what_head_was_written_with_is_what_is_read(tmp_path: Path) -> None:
    store.save(tmp_path / "state" / "head.json", HEAD)
    assert store.load(tmp_path / "state" / "head.json", Head) == HEAD
    assert os.listdir(tmp_path / "state") == ["head.json"]


def test_a_snapshot_of_an_older_comfygov_keeps_its_bytes_while_it_says_the_same(tmp_path: Path) -> None:
    """It wrote fewer fields: to write them anew would be drift, and a digest that the audit does not know."""
    pack = Plugin("alpha", "https://example.com/alpha", "c" * 40, "d" * 40, "node-alpha")
    older = json.loads(store.encode(Registry((pack,))))
    for name in ("place", "archive"):
        del older["plugins"][0][name]
    directory = tmp_path / "snapshots" / "0001-init"
    directory.mkdir(parents=True)
    stored = json.dumps(older).encode()
    for name, data in (("pyproject.toml", b"p"), ("uv.lock", b"u"), ("plugins.json", stored)):
        (directory / name).write_bytes(data)
    store.save(directory / "meta.json", SnapshotMeta("0001-init", 1, "init", "2026-11-21T20:15:00Z", "g", "e" * 40))
    state = Snapshots(Home(tmp_path, Config())).read("0001-init")
    assert state.truth()["plugins.json"] == stored
    assert state.digest() == hashlib.sha256(b"p\0u\0" + stored).hexdigest()
    assert state.relocked(b"q", b"v", "h").truth()["plugins.json"] == stored
    other = Registry((msgspec.structs.replace(pack, enabled=True),))
    assert dataclasses.replace(state, registry=other).truth()["plugins.json"] == store.encode(other)
