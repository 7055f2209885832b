"""What is installed in an environment, read from its dist-info directories alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from comfygov.model.names import canonical
from comfygov.model.tx import Difference, PackageChange, PackageVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info")
_HASH_CHUNK_BYTES = 1 << 20
_SHOWN_FILES = 3
_MODULES = (".py", ".so", ".pyd", ".pyi")


def site_packages(environment: Path) -> Path:
    """The one site-packages of an environment."""
    found = sorted(environment.glob("lib/python3*/site-packages"))
    return found[0] if found else environment / "lib" / "python3" / "site-packages"


def dist_infos(environment: Path) -> Iterator[tuple[str, str, str]]:
    """(canonical name, version, path of the dist-info directory) of every installed package."""
    site = site_packages(environment)
    try:
        names = os.listdir(site)
    except FileNotFoundError:
        return
    for entry in names:
        match = _DIST_INFO.fullmatch(entry)
        if match:
            yield canonical(match["name"]), match["version"], f"{site}/{entry}"


def freeze(environment: Path) -> tuple[str, ...]:
    """`name==version` of every installed package, sorted; a direct source is named behind ` @ `."""
    lines = []
    for name, version, path in dist_infos(environment):
        direct = Path(path) / "direct_url.json"
        origin = f" @ {_direct_url(direct)}" if direct.is_file() else ""
        lines.append(f"{name}=={version}{origin}")
    return tuple(sorted(lines))


def _direct_url(path: Path) -> str:
    import msgspec

    try:
        data = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError:
        return "unreadable"
    commit = (data.get("vcs_info") or {}).get("commit_id", "")
    return f"{data.get('url', '')}@{commit}" if commit else str(data.get("url", ""))


def difference(before: tuple[str, ...], after: tuple[str, ...]) -> Difference:
    """What lies between two freezes."""
    old, new = (dict(line.split("==", 1) for line in lines) for lines in (before, after))
    return Difference(
        added=tuple(PackageVersion(n, new[n]) for n in sorted(new.keys() - old.keys())),
        removed=tuple(PackageVersion(n, old[n]) for n in sorted(old.keys() - new.keys())),
        changed=tuple(PackageChange(n, old[n], new[n]) for n in sorted(old.keys() & new.keys()) if old[n] != new[n]),
    )


def only(wanted: tuple[str, ...], found: Difference) -> Difference:
    """The part of `found` that concerns the packages in `wanted`."""
    names = {canonical(name) for name in wanted}
    return Difference(
        tuple(p for p in found.added if p.name in names),
        tuple(p for p in found.removed if p.name in names),
        tuple(c for c in found.changed if c.name in names),
    )


def files_of(environment: Path, names: frozenset[str], suffix: str) -> Iterator[str]:
    """Paths of the installed files of the packages `names` that end with `suffix`, as far as they lie in the
    environment: a RECORD may name anything."""
    site, inside = site_packages(environment), f"{os.path.normpath(environment)}/"
    for name, _, path in dist_infos(environment):
        if name in names:
            rows = _rows(Path(path, "RECORD").read_text(encoding="utf-8", errors="replace"))
            paths = (os.path.normpath(f"{site}/{file}") for file, _, _ in rows if file.endswith(suffix))
            yield from (path for path in paths if path.startswith(inside))


def owners(environment: Path) -> dict[str, frozenset[str]]:
    """Top-level module -> the packages that have files of it."""
    found: dict[str, set[str]] = {}
    for name, _, path in dist_infos(environment):
        try:
            rows = all_rows(Path(path, "RECORD").read_text(encoding="utf-8"))
            tops = {file.split("/", 1)[0].split(".")[0] for file, _, _ in rows if file.endswith(_MODULES)}
        except (OSError, ValueError):
            continue  # a package that cannot be read provides nothing
        for top in tops - {""}:
            found.setdefault(top, set()).add(name)
    return {module: frozenset(names) for module, names in found.items()}


def requires(environment: Path, name: str) -> tuple[str, ...]:
    """What an installed package asks for, as its METADATA says it (core metadata, "Requires-Dist")."""
    for found, _, path in dist_infos(environment):
        if found == name:
            text = Path(path, "METADATA").read_text(encoding="utf-8", errors="replace")
            header = text.partition("\n\n")[0]
            return tuple(re.findall(r"^Requires-Dist: *(.+?)\s*$", header, re.MULTILINE))
    return ()


def check(environment: Path, *, deep_for: frozenset[str] | None = frozenset()) -> list[str]:
    """Compare every installed file with its RECORD: sizes, and sha256 too for the packages named in
    `deep_for` (None: for all). Returns a line for each file that is missing or different; of a package
    with many the first three are named and the others counted."""
    site = str(site_packages(environment))
    packages = sorted(dist_infos(environment))

    def look(package: tuple[str, str, str]) -> list[str]:
        name, _, path = package
        return _check_package(site, path, deep=deep_for is None or name in deep_for)

    reads_no_content = deep_for is not None and not deep_for
    found = [look(package) for package in packages] if reads_no_content else _in_parallel(look, packages)
    return [
        f"{name} {version}: {line}"
        for (name, version, _), lines in zip(packages, found, strict=True)
        for line in _abridged(lines)
    ]


def _in_parallel(look: Callable[[T], list[str]], packages: list[T]) -> list[list[str]]:
    """Hashing lets go of the interpreter: as many threads as cores."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(look, packages))


def _abridged(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN_FILES
    return [*lines[:_SHOWN_FILES], f"and {more} more files"] if more > 0 else lines


def _check_package(site: str, dist_info: str, *, deep: bool) -> list[str]:
    try:
        rows = list(_rows(Path(dist_info, "RECORD").read_text(encoding="utf-8")))
        return list(_check_files(site, rows, deep=deep)) if rows else ["RECORD names no files"]
    except FileNotFoundError:
        return ["RECORD is missing"]
    except (ValueError, OSError) as error:
        return [f"RECORD cannot be read: {error}"]


def _check_files(site: str, rows: list[tuple[str, str, str]], *, deep: bool) -> Iterator[str]:
    for file, digest, size in rows:
        path = f"{site}/{file}"
        try:
            facts = os.stat(path)  # noqa: PTH116 (40 000 files)
        except OSError:
            yield f"{file} is missing"
            continue
        if size and facts.st_size != int(size):
            yield f"{file} has {facts.st_size} bytes, RECORD says {size}"
        elif deep and digest.startswith("sha256=") and _sha256(path) != digest[7:]:
            yield f"{file} differs from its RECORD"


def named_files(environment: Path) -> Iterator[str]:
    """Every path that some RECORD names, relative to site-packages, with or without a digest."""
    for _, _, path in dist_infos(environment):
        try:
            text = Path(path, "RECORD").read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        yield from (row[0] for row in all_rows(text))


def _rows(record: str) -> Iterator[tuple[str, str, str]]:
    """Rows that name a digest; others (RECORD itself, bytecode) may change."""
    # Some wheels list bytecode; ours replaces it.
    return (row for row in all_rows(record) if row[1] and not row[0].endswith(".pyc"))


def all_rows(record: str) -> Iterator[tuple[str, str, str]]:
    """(path, digest, size) of each line of a RECORD, relative to site-packages."""
    if '"' in record:
        import csv

        rows = [tuple(row) for row in csv.reader(record.splitlines())]
    else:
        rows = [tuple(line.rsplit(",", 2)) for line in record.splitlines()]
    for row in rows:
        if len(row) == 3:
            yield row[0], row[1], row[2]


def _sha256(path: str) -> str:
    import base64
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
