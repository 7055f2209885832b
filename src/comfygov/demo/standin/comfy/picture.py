"""Pictures of the stand-in: 8-bit RGB in bytes, with a PNG writer and reader made of zlib alone.

Where the real program passes a torch tensor as IMAGE, the stand-in passes a list of `Picture`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
INVERTED = bytes(255 - value for value in range(256))
CHANNELS = {2: 3, 6: 4}


@dataclass(frozen=True)
class Picture:
    """One RGB picture: width * height * 3 bytes, row by row from the top."""

    width: int
    height: int
    data: bytes

    @classmethod
    def filled(cls, width: int, height: int, color: int) -> Picture:
        """One colour all over, given as 0xRRGGBB."""
        return cls(width, height, color.to_bytes(3, "big") * (width * height))

    def inverted(self) -> Picture:
        """The negative."""
        return Picture(self.width, self.height, self.data.translate(INVERTED))

    def pixel(self, x: int, y: int) -> tuple[int, int, int]:
        """The red, green and blue of one pixel."""
        start = (y * self.width + x) * 3
        red, green, blue = self.data[start : start + 3]
        return red, green, blue

    def scaled(self, width: int, height: int) -> Picture:
        """Resized by taking the nearest pixel."""
        columns = [int((x + 0.5) * self.width / width) * 3 for x in range(width)]
        rows = []
        for y in range(height):
            start = int((y + 0.5) * self.height / height) * self.width * 3
            row = self.data[start : start + self.width * 3]
            rows.append(b"".join([row[c : c + 3] for c in columns]))
        return Picture(width, height, b"".join(rows))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text_chunk(key: str, text: str) -> bytes:
    try:
        return _chunk(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode())


def encode_png(picture: Picture, text: dict[str, str] | None = None, level: int = 4) -> bytes:
    """The bytes of an 8-bit RGB PNG file, with text chunks before the pixels."""
    stride = picture.width * 3
    rows = b"".join(b"\0" + picture.data[y * stride : (y + 1) * stride] for y in range(picture.height))
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    notes = b"".join(_text_chunk(key, value) for key, value in (text or {}).items())
    pixels = _chunk(b"IDAT", zlib.compress(rows, level))
    return SIGNATURE + _chunk(b"IHDR", header) + notes + pixels + _chunk(b"IEND", b"")


def _chunks(blob: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at + 8 <= len(blob):
        length, kind = struct.unpack(">I4s", blob[at : at + 8])
        found[kind] = found.get(kind, b"") + blob[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def _paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    da, db, dc = abs(p - a), abs(p - b), abs(p - c)
    if da <= db and da <= dc:
        return a
    return b if db <= dc else c


def _guess(kind: int, left: int, up: int, corner: int) -> int:
    return (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]


def _unfilter(kind: int, row: bytearray, above: bytes, step: int) -> bytes:
    if kind > 4:
        raise ValueError(f"Unknown PNG filter {kind}")
    if kind:
        for i, value in enumerate(row):
            left = row[i - step] if i >= step else 0
            corner = above[i - step] if i >= step else 0
            row[i] = (value + _guess(kind, left, above[i], corner)) & 0xFF
    return bytes(row)


def _rows(raw: bytes, stride: int, height: int, step: int) -> bytes:
    rows, above = [], bytes(stride)
    for y in range(height):
        at = y * (stride + 1)
        above = _unfilter(raw[at], bytearray(raw[at + 1 : at + 1 + stride]), above, step)
        rows.append(above)
    return b"".join(rows)


def decode_png(blob: bytes) -> tuple[Picture, bytes | None]:
    """Read an 8-bit RGB or RGBA PNG file: the picture and, if there is one, its alpha channel."""
    if not blob.startswith(SIGNATURE):
        raise ValueError("cannot identify image file: the stand-in reads PNG only")
    chunks = _chunks(blob)
    width, height, depth, kind, _, _, interlace = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if depth != 8 or kind not in CHANNELS or interlace:
        raise ValueError("the stand-in reads 8-bit RGB and RGBA PNG without interlacing only")
    step = CHANNELS[kind]
    flat = _rows(zlib.decompress(chunks[b"IDAT"]), width * step, height, step)
    if step == 3:
        return Picture(width, height, flat), None
    return _drop_alpha(width, height, flat), flat[3::4]


def _drop_alpha(width: int, height: int, flat: bytes) -> Picture:
    data = bytearray(width * height * 3)
    for channel in range(3):
        data[channel::3] = flat[channel::4]
    return Picture(width, height, bytes(data))
