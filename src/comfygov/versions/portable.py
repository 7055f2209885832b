"""Project files without this machine's folders: what is local is called `wheels`, and has its sums beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from comfygov.errors import Code, GovError
from comfygov.model.names import PROJECT_NAME
from comfygov.model.version import WHEELS, LockedPackage
from comfygov.ports import find_links, toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Project:
    """`pyproject.toml` and `uv.lock` as texts; `local` maps the names of wheels that no index has to their paths."""

    pyproject: str
    uv_lock: str
    local: dict[str, Path]


def portable(pyproject: str, uv_lock: str) -> Project:
    """The project with `wheels` in the place of local folders. Raises GovError for what only this machine has."""
    document = toml.loads(pyproject)
    folders = [entry for entry in _wheels_of(document) if not _is_address(entry)]
    local: dict[str, Path] = {}
    for folder in folders:
        for name in _local_files(uv_lock, folder):
            local[name] = _only(local, name, Path(folder) / name)
        uv_lock = _moved(uv_lock, folder, WHEELS)
    _refuse_local(uv_lock)
    return Project(_with_folder(pyproject, WHEELS), uv_lock, local)


def placed(pyproject: str, uv_lock: str, folder: Path) -> tuple[str, str]:
    """The reverse: the project with `folder` for `wheels`."""
    return _with_folder(pyproject, str(folder)), _moved(uv_lock, WHEELS, str(folder))


def _only(known: dict[str, Path], name: str, path: Path) -> Path:
    other = known.get(name, path)
    if other != path and other.read_bytes() != path.read_bytes():
        raise GovError(Code.WRONG_STATE, f"{other} and {path} have one name and differ", "keep one of them")
    return other


def _wheels_of(document: dict[str, Any]) -> list[str]:
    return [find_links.as_given(entry) for entry in document["tool"]["uv"].get("find-links", [])]


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _with_folder(pyproject: str, folder: str) -> str:
    """`pyproject` with one local folder in find-links, where it has any."""
    import tomli_w

    document = toml.loads(pyproject)
    found = _wheels_of(document)
    if all(map(_is_address, found)):
        return pyproject
    document["tool"]["uv"]["find-links"] = list(
        dict.fromkeys(entry if _is_address(entry) else find_links.for_uv(folder) for entry in found)
    )
    start = "".join(line for line in pyproject.splitlines(keepends=True)[:1] if line.startswith("#"))
    return start + tomli_w.dumps(document)


def _moved(uv_lock: str, before: str, after: str) -> str:
    uv_lock = uv_lock.replace(f'registry = "{before}"', f'registry = "{after}"')
    return uv_lock.replace(f'path = "{before}/', f'path = "{after}/')


def _local_files(uv_lock: str, folder: str) -> Iterator[str]:
    for package in packages_in(uv_lock):
        for wheel in _files(package):
            path = PurePosixPath(wheel.get("path", ""))
            if str(path.parent) == folder:
                yield path.name


def packages_in(uv_lock: str) -> list[dict[str, Any]]:
    """The packages of a uv.lock without the project itself."""
    found: list[dict[str, Any]] = toml.loads(uv_lock).get("package", [])
    return [package for package in found if package.get("name") != PROJECT_NAME]


def _files(package: dict[str, Any]) -> list[dict[str, Any]]:
    source = [package["sdist"]] if "sdist" in package else []
    return [*package.get("wheels", []), *source]


def _refuse_local(uv_lock: str) -> None:
    for package in packages_in(uv_lock):
        place = local_place(package)
        if place:
            raise GovError(
                Code.WRONG_STATE,
                f"the package {package['name']} comes from {place}, which no other machine has",
                "put a wheel of it into a folder that [python] find_links names",
            )


def local_place(package: dict[str, Any]) -> str:
    """The folder or file of one machine that a locked package needs; empty when it needs none."""
    source = package.get("source", {})
    for key in ("path", "directory", "editable", "virtual"):
        if key in source:
            return str(source[key])
    addresses = [source.get("registry", ""), source.get("url", ""), source.get("git", "")]
    for text in filter(None, addresses):
        if text != WHEELS and not _is_address(text):
            return str(text)
    for file in _files(package):
        path = PurePosixPath(file.get("path", WHEELS))
        if path != PurePosixPath(WHEELS) and str(path.parent) != WHEELS:
            return str(path)
        if "url" in file and not _is_address(file["url"]):
            return str(file["url"])
    return ""


def locked_packages(uv_lock: str, sums: dict[str, str]) -> tuple[LockedPackage, ...]:
    """The packages of a portable uv.lock, sorted; `sums` are `sha256:…` of the wheels that no index has."""
    found = []
    for package in packages_in(uv_lock):
        source = package.get("source", {})
        hashes = {_name_of(file): file.get("hash") or sums.get(_name_of(file), "") for file in _files(package)}
        where = source.get("registry") or source.get("url") or source.get("git") or ""
        hashes = {name: text for name, text in sorted(hashes.items()) if text}
        found.append(LockedPackage(package["name"], package.get("version", ""), where, hashes))
    return tuple(sorted(found, key=lambda one: (one.name, one.version, one.source)))


def _name_of(file: dict[str, Any]) -> str:
    text = str(file.get("filename") or file.get("path") or file.get("url") or "")
    return PurePosixPath(re.split("[#?]", text, maxsplit=1)[0]).name


def local_sums(packages: Sequence[LockedPackage]) -> dict[str, str]:
    """`sha256:…` by file name of the wheels that travel beside the lock."""
    return {name: text for one in packages if one.source == WHEELS for name, text in one.hashes.items()}


def indexes(pyproject: str) -> tuple[str, ...]:
    """The package indexes that the project asks, in its order; `pypi` stands for the default one."""
    table = toml.loads(pyproject)["tool"]["uv"]
    named = table.get("index", [])
    default = [] if table.get("no-index") or any(entry.get("default") for entry in named) else ["pypi"]
    links = [WHEELS if not _is_address(entry) else entry for entry in table.get("find-links", [])]
    return tuple(dict.fromkeys([*(entry["url"] for entry in named), *default, *links]))
