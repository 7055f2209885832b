"""Pictures of workflows are read without a library, whatever is handed over as one."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.trial import png

ROW = bytes([10, 20, 30, 40, 50, 60, 70, 80, 90])


def packed(rows: bytes, *, width: int = 3, height: int = 1, depth: int = 8, kind: int = 2, more: bytes = b"") -> bytes:
    """A PNG whose filtered rows are `rows`."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    palette = ((b"PLTE", more),) if more else ()
    parts = ((b"IHDR", header), *palette, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


FILTERED = {
    "none": b"\0" + ROW,
    "sub": b"\1" + bytes([10, 20, 30, 30, 30, 30, 30, 30, 30]),
    "up": b"\2" + ROW,
    "average": b"\3" + bytes([10, 20, 30, 35, 40, 45, 50, 55, 60]),
    "paeth": b"\4" + bytes([10, 20, 30, 30, 30, 30, 30, 30, 30]),
}


@pytest.mark.parametrize("rows", FILTERED.values(), ids=FILTERED)
def test_every_filter_is_undone(rows: bytes) -> None:
    assert png.read(packed(rows)).samples == ROW


def test_other_forms() -> None:
    assert png.read(packed(b"\0\1\0\1", kind=3, more=b"abcdef")).samples == b"defabcdef"
    assert png.read(packed(b"\0" + bytes([1, 9, 2, 9, 3, 9]), depth=16, kind=0)).samples == b"\1\2\3"


def test_how_far_pictures_are_apart() -> None:
    black, white = (png.Picture(2, 1, 3, bytes([value]) * 6) for value in (0, 255))
    assert png.difference(black, black) == 0
    assert png.difference(black, white) == 1
    with pytest.raises(png.UnreadablePictureError, match="2 x 1 pixels of 3"):
        png.difference(black, png.Picture(1, 1, 3, b"abc"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        packed(b"\0" + ROW)[:40],
        packed(b"\0" + ROW[:5]),
        packed(b"\7" + ROW),
        packed(b"\0" + ROW, width=0),
        packed(b"\0" + bytes(1000), width=1 << 30, height=1 << 30),
        packed(b"\0\5\5\5", kind=3, more=b"abc"),
        packed(b"\0" + ROW, depth=4),
    ],
)
def test_what_is_no_picture_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(png.UnreadablePictureError):
        png.read(data)


@given(st.binary(max_size=300), st.integers(0, 60))
def test_any_bytes_are_a_picture_or_an_error(noise: bytes, at: int) -> None:
    good = packed(b"\0" + ROW)
    for data in (noise, good[:at] + noise + good[at:]):
        try:
            png.read(data)
        except png.UnreadablePictureError:
            pass
