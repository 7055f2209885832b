"""What an encoded text hides: base64, hexadecimal and compressed layers taken off, with bounds."""

from __future__ import annotations

import base64
import binascii
import re
import zlib

_MIN_CHARACTERS = 48
_MAX_CHARACTERS = 4 << 20
_MAX_OUTPUT_BYTES = 1 << 20
_MAX_LAYERS = 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}\s?)+")
_CODE = re.compile(
    rb"(?:^|[\n;])\s*(?:import \w|from [\w.]+ import |def \w+\(|class \w+[(:])|\b(?:exec|eval|__import__|compile)\s*\("
    rb"|\bos\.system\b|\bsubprocess\b|^#!/|\bpowershell\b|\bcmd\.exe\b|/bin/(?:ba)?sh\b"
)
_PROGRAMS = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    # marshal's code object of a module: no arguments of any kind (Python/marshal.c)
    (b"\xe3" + bytes(8), "compiled Python"),
    (b"\x63" + bytes(8), "compiled Python"),
)


def code_behind(text: str | bytes) -> str:
    """What `text` decodes to, in words, where that is code or a program; else empty. Plain code is none."""
    data = text.encode("ascii", "ignore") if isinstance(text, str) else text
    if not _MIN_CHARACTERS <= len(data) <= _MAX_CHARACTERS:
        return ""
    waiting = [(data, 0)]
    while waiting:
        data, layers = waiting.pop()
        found = _what_it_is(data) if layers else ""
        if found:
            return found
        if layers < _MAX_LAYERS:
            waiting += [(below, layers + 1) for below in _below(data) if len(below) >= 8]
    return ""


def _below(data: bytes) -> list[bytes]:
    """`data` with one layer taken off, in each way that works."""
    found = []
    if len(data) >= _MIN_CHARACTERS and _HEX.fullmatch(data):
        found.append(bytes.fromhex(re.sub(rb"\s", b"", data).decode("ascii")))
    elif len(data) >= _MIN_CHARACTERS and _BASE64.fullmatch(data):
        bare = re.sub(rb"\s", b"", data).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        try:
            found.append(base64.b64decode(bare + b"=" * (-len(bare) % 4)))
        except (binascii.Error, ValueError):
            pass
    if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
        try:
            found.append(zlib.decompressobj(47).decompress(data, _MAX_OUTPUT_BYTES))
        except zlib.error:
            pass
    return found


def _what_it_is(data: bytes) -> str:
    for start, name in _PROGRAMS:
        if data.startswith(start) and len(data) > 64:
            return name
    sample = data[:20_000]
    readable = sum(32 <= byte < 127 or byte in (9, 10, 13) for byte in sample)
    if readable < 0.97 * len(sample):
        return ""
    match = _CODE.search(sample)
    return f"code (`{match[0].strip().decode('ascii', 'replace')[:40]}`)" if match else ""
