"""Pictures as PNG, read with zlib alone and compared: enough for what ComfyUI saves, and no library to trust.

Format: ISO/IEC 15948 (PNG). Read are 8 and 16 bit, grey, RGB, palette, with or without alpha, not interlaced.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
_MAX_PIXELS = 16 << 20


class UnreadablePictureError(ValueError):
    """The bytes are no picture that can be read here; the text says why."""


@dataclass(frozen=True)
class Picture:
    """`samples` has `channels` bytes for each pixel, row by row from the top; of 16 bits the upper eight."""

    width: int
    height: int
    channels: int
    samples: bytes


def read(data: bytes) -> Picture:
    """Raises UnreadablePictureError; memory is bounded by the size that the header names, and that by 16 Mpixel."""
    try:
        return _read(data)
    except (struct.error, zlib.error, IndexError) as error:
        raise UnreadablePictureError(f"it is damaged: {error}") from error


def _read(data: bytes) -> Picture:
    if not data.startswith(_SIGNATURE):
        raise UnreadablePictureError("it is no PNG")
    chunks = list(_chunks(data))
    header = dict(chunks).get(b"IHDR", b"")
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth not in (8, 16) or kind not in _CHANNELS or interlaced:
        raise UnreadablePictureError("it is of a form that is not read here (interlaced, or less than 8 bit)")
    if not 0 < width * height <= _MAX_PIXELS:
        raise UnreadablePictureError(f"it has {width} x {height} pixels")
    stride = width * _CHANNELS[kind] * depth // 8
    packed = b"".join(content for name, content in chunks if name == b"IDAT")
    raw = zlib.decompressobj().decompress(packed, height * (stride + 1))
    if len(raw) != height * (stride + 1):
        raise UnreadablePictureError("it ends too early")
    samples = _unfiltered(raw, stride, _CHANNELS[kind] * depth // 8)
    samples = samples[::2] if depth == 16 else samples
    if kind != _PALETTE:
        return Picture(width, height, _CHANNELS[kind], samples)
    palette = dict(chunks).get(b"PLTE", b"")
    colors = [palette[at : at + 3] for at in range(0, len(palette) - 2, 3)]
    return Picture(width, height, 3, b"".join(colors[index] for index in samples))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(_SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        found.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _unfiltered(raw: bytes, stride: int, step: int) -> bytes:
    """Undo the filter of each row; `step` is the bytes of a pixel."""
    above, rows = bytes(stride), []
    for start in range(0, len(raw), stride + 1):
        row = bytearray(raw[start + 1 : start + 1 + stride])
        _UNFILTER[raw[start]](row, above, step)
        above = bytes(row)
        rows.append(above)
    return b"".join(rows)


def _none(_row: bytearray, _above: bytes, _step: int) -> None:
    return


def _sub(row: bytearray, _above: bytes, step: int) -> None:
    for at in range(step, len(row)):
        row[at] = (row[at] + row[at - step]) & 255


def _up(row: bytearray, above: bytes, _step: int) -> None:
    row[:] = bytes((value + over) & 255 for value, over in zip(row, above, strict=True))


def _average(row: bytearray, above: bytes, step: int) -> None:
    for at, over in enumerate(above):
        left = row[at - step] if at >= step else 0
        row[at] = (row[at] + (left + over) // 2) & 255


def _paeth(row: bytearray, above: bytes, step: int) -> None:
    for at, over in enumerate(above):
        left, corner = (row[at - step], above[at - step]) if at >= step else (0, 0)
        near_left, near_over, near_corner = abs(over - corner), abs(left - corner), abs(left + over - 2 * corner)
        if near_left <= near_over and near_left <= near_corner:
            row[at] = (row[at] + left) & 255
        else:
            row[at] = (row[at] + (over if near_over <= near_corner else corner)) & 255


_UNFILTER = (_none, _sub, _up, _average, _paeth)


def difference(one: Picture, other: Picture) -> float:
    """How far two pictures are apart, 0 (the same) to 1: the mean of the absolute differences of all samples.

    Raises UnreadablePictureError for pictures that cannot be compared: of other sizes or channels.
    """
    shapes = [(picture.width, picture.height, picture.channels) for picture in (one, other)]
    if shapes[0] != shapes[1]:
        raise UnreadablePictureError(" and ".join("{} x {} pixels of {} channels".format(*shape) for shape in shapes))
    total = sum(abs(a - b) for a, b in zip(one.samples, other.samples, strict=True))
    return total / (255 * len(one.samples))
