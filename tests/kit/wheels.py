"""Tiny wheels in a flat index, so that the real uv resolves offline in milliseconds."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def add_wheel(
    index: Path,
    name: str,
    version: str,
    requires: tuple[str, ...] = (),
    modules: dict[str, str] | None = None,
    requires_python: str = "",
) -> Path:
    """Write `name-version-py3-none-any.whl`; `modules` are file -> source, default one package."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files = dict(modules or {f"{name.replace('-', '_')}/__init__.py": f"__version__ = {version!r}\n"})
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {line}" for line in requires]
    metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
    files[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    index.mkdir(parents=True, exist_ok=True)
    wheel = index / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return wheel


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
