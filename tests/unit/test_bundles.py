"""A bundle may come from anybody: what it says of itself is held against what it is, before anything stays."""

from __future__ import annotations

import io
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfygov.errors import Code, GovError
from comfygov.ops import version_bundle
from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.conftest import Refused

DATA = b"{}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMFYGOV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(name: str, data: bytes = DATA, **facts: object) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for key, value in facts.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(data))

    return add


def packed(path: Path, *entries: Callable[[tarfile.TarFile], None]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for add in entries:
            add(archive)
    return path


def left(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_a_bundle_comes_out_whole(tmp_path: Path, cache: Path) -> None:
    found = version_bundle.opened(packed(tmp_path / "b", entry("lock.json"), entry("wheels/a-1.whl", b"w" * 100)))
    assert found.read_bytes() == DATA
    assert (found.parent / "wheels" / "a-1.whl").read_bytes() == b"w" * 100
    assert found.is_relative_to(cache)


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.size": "9" * 12}
ODD = {
    "leaves": entry("../lock.json"),
    "absolute": entry("/etc/passwd"),
    "leaves from inside": entry("wheels/../../x"),
    "deeper": entry("wheels/sub/x"),
    "no sum": entry("models/short"),
    "unknown": entry("other.txt"),
    "two lines": entry("wheels/a\nb"),
    "link": entry("wheels/link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hardlink": entry("wheels/hard", b"", type=tarfile.LNKTYPE, linkname="lock.json"),
    "pipe": entry("wheels/pipe", b"", type=tarfile.FIFOTYPE),
    "device": entry("wheels/disk", b"", type=tarfile.BLKTYPE, devmajor=8),
    "folder": entry("wheels", b"", type=tarfile.DIRTYPE),
    "twice": entry("lock.json"),
    "sparse": entry("wheels/bomb", b"", pax_headers=SPARSE),
    "sparse, older": entry("wheels/bomb", b"0,9\n", pax_headers={"GNU.sparse.size": "9" * 12, "GNU.sparse.map": "0,1"}),
    "size": entry("wheels/size", b"", pax_headers={"size": "9" * 15}),
    "header": entry("wheels/header", b"", pax_headers={"comment": "x" * (20 << 20)}),
}


@pytest.mark.parametrize("name", ODD)
def test_what_no_bundle_has_is_refused(tmp_path: Path, cache: Path, name: str, refused: Refused) -> None:
    with refused(Code.BAD_CONFIG):
        version_bundle.opened(packed(tmp_path / "b", entry("lock.json"), ODD[name]))
    assert left(cache) == []
    assert sorted(path.name for path in tmp_path.iterdir()) in (["b", "cache"], ["b"])


def test_a_bundle_without_a_lock_is_none(tmp_path: Path, cache: Path, refused: Refused) -> None:
    with refused(Code.BAD_CONFIG):
        version_bundle.opened(packed(tmp_path / "b", entry("wheels/a.whl")))
    assert left(cache) == []


def test_too_many_files_are_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(version_bundle, "_MOST_MEMBERS", 10)
    with refused(Code.BAD_CONFIG):
        version_bundle.opened(packed(tmp_path / "b", *(entry(f"git/{n}.bundle") for n in range(11))))
    assert left(cache) == []


def test_a_disk_without_room_is_told_before(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(fs, "free_bytes", lambda _path: 100)
    with refused(Code.DISK_FULL):
        version_bundle.opened(packed(tmp_path / "b", entry("lock.json")))
    assert left(cache) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(at=st.integers(0, 3000), byte=st.integers(0, 255), cut=st.integers(0, 4000))
def test_damage_is_an_error_or_harmless(tmp_path: Path, cache: Path, at: int, byte: int, cut: int) -> None:
    path = packed(tmp_path / "b", entry("lock.json"), entry("wheels/a.whl", b"w" * 700))
    data = bytearray(path.read_bytes())
    data[at] = byte
    path.write_bytes(data[: len(data) - cut])
    found: Path | None = None
    with suppress_bad(cache):
        found = version_bundle.opened(path)
    if found is not None:
        assert {p.name for p in left(cache)} <= {"lock.json", "a.whl"}
        fs.remove_tree(found.parent)


@contextmanager
def suppress_bad(cache: Path) -> Iterator[None]:
    """The error for a damaged bundle, which leaves nothing."""
    try:
        yield
    except GovError as error:
        if error.code is not Code.BAD_CONFIG or left(cache):
            raise
