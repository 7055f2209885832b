"""comfygov itself as a wheel, made of the files that run: an image gets the comfygov that built it.

The format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TIME = (1980, 1, 1, 0, 0, 0)
_ENTRY_POINTS = "[console_scripts]\ngov = comfygov.__main__:main\n"
_TAGS = "Wheel-Version: 1.0\nGenerator: comfygov\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write(package: Path, version: str, metadata: str, folder: Path) -> Path:
    """Pack the package at `package` with `metadata` (the text of METADATA) into a wheel in `folder`."""
    info = f"comfygov-{version}.dist-info"
    files = {f"comfygov/{path.relative_to(package).as_posix()}": path.read_bytes() for path in _sources(package)}
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = _TAGS.encode()
    files[f"{info}/entry_points.txt"] = _ENTRY_POINTS.encode()
    rows = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"comfygov-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(_entry(name), data)
    return wheel


def _sources(package: Path) -> Iterator[Path]:
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if path.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts):
            yield path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = 0o100644 << 16
    entry.create_system = 3  # Unix, whatever it is made on
    return entry


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
