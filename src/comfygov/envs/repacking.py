"""A wheel made again of an installed package, for packages that no index has: local wheels, repositories, folders.

The form is that of the binary distribution format (packaging.python.org, PEP 427): what RECORD names, without what
the installer added. Programs in `bin` are made anew from the entry points, others travel as `.data/scripts`.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from comfygov.envs import record
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.envs.metadata import Installed

_BY_INSTALLER = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})
_SAME_TIME = (2020, 1, 1, 0, 0, 0)


def repack(environment: Path, package: Installed, folder: Path) -> Path:
    """Write the wheel of an installed package into `folder`. The same files give the same bytes.

    Raises `wrong_state` for a package that is not all there.
    """
    site = record.site_packages(environment)
    files = dict(sorted(_files(site, package)))
    info = package.folder.name
    rows = [f"{_quoted(name)},sha256={_sum(data)},{len(data)}" for name, (data, _) in files.items()]
    files[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,"]).encode() + b"\n", 0o644)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{info.removesuffix('.dist-info')}-{_tag(package)}.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (data, mode) in files.items():
            entry = zipfile.ZipInfo(name, _SAME_TIME)
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return target


def _files(site: Path, package: Installed) -> Iterator[tuple[str, tuple[bytes, int]]]:
    """(path in the wheel, (content, mode)) of every file that the package brought."""
    info, programs = package.folder.name, _entry_points(package)
    try:
        text = (package.folder / "RECORD").read_text(encoding="utf-8")
        for name, _, _ in record.all_rows(text):
            path = site / name
            parts = PurePosixPath(name).parts
            if name.endswith(".pyc") or (parts[0] == info and parts[-1] in _BY_INSTALLER):
                continue
            if parts[0] != "..":
                yield name, (path.read_bytes(), path.stat().st_mode & 0o777)
            elif path.parent.name == "bin":
                if path.name not in programs:
                    where = f"{info.removesuffix('.dist-info')}.data/scripts/{path.name}"
                    yield where, (path.read_bytes(), path.stat().st_mode & 0o777)
            else:
                where = f"{info.removesuffix('.dist-info')}.data/data/{_below_prefix(site, path)}"
                yield where, (path.read_bytes(), path.stat().st_mode & 0o777)
    except (OSError, ValueError) as error:
        problem = f"{package.pin} is in no index, and not all there to be packed again: {error}"
        raise GovError(Code.WRONG_STATE, problem, f"install {package.name} again in that environment") from error


def _below_prefix(site: Path, path: Path) -> str:
    import os

    prefix = site.parent.parent.parent
    return Path(os.path.normpath(path)).relative_to(prefix).as_posix()


def _entry_points(package: Installed) -> set[str]:
    import configparser

    parser = configparser.ConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string((package.folder / "entry_points.txt").read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return set()
    groups = (group for group in ("console_scripts", "gui_scripts") if parser.has_section(group))
    return {name for group in groups for name in parser.options(group)}


def _tag(package: Installed) -> str:
    """The compressed tag of the wheel's name, from its WHEEL file: `py3-none-any`."""
    try:
        lines = (package.folder / "WHEEL").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        problem = f"{package.pin} is in no index, and was installed without a wheel"
        raise GovError(Code.WRONG_STATE, problem, f"install {package.name} from a wheel in that environment") from error
    tags = [line.partition(":")[2].strip().split("-") for line in lines if line.startswith("Tag:")]
    parts = [sorted({tag[place] for tag in tags if len(tag) == 3}) for place in range(3)]
    return "-".join(".".join(part) for part in parts) if all(parts) else "py3-none-any"


def _sum(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _quoted(name: str) -> str:
    return f'"{name}"' if "," in name else name
