"""The node registry: packs by id and version, as archives. Each version becomes a commit of its files in the object
cache, so that everything that follows is as for a git repository whose tags are versions.

API: `GET /nodes/ID`, `/nodes/ID/versions`, `/nodes/ID/versions/V` (docs.comfy.org, registry API). `/install` is not
asked: it counts an install. An archive is a ZIP whatever its name says, and the registry holds no sum of it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ports import fs, git_content, http
from comfygov.ports.source import REGISTRY, Source

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator
    from pathlib import Path

    from comfygov.ports.git import Git

ENDPOINT_VARIABLE = "COMFYGOV_NODE_REGISTRY"
_PUBLIC = "https://api.comfy.org"
_RECORD = "comfygov-archives.json"
_MAX_ARCHIVE_BYTES = 2_000_000_000
_MAX_UNPACKED_BYTES = 8_000_000_000
_MAX_ANSWER_BYTES = 20_000_000
_MOST_VERSIONS_LOOKED_AT = 30
_REFUSED = ("Flagged", "Banned", "Deleted")
_TEXT = re.compile(
    r"(?:registry:)?(?P<id>[A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:@(?P<version>[A-Za-z0-9][A-Za-z0-9.+-]{0,60}))?"
)


class Archive(msgspec.Struct, frozen=True):
    """One version that was fetched: the sum of its archive is ours, of the first time."""

    version: str
    url: str
    sha256: str
    commit: str


class _Version(msgspec.Struct, frozen=True):
    version: str
    downloadUrl: str = ""  # noqa: N815 (the registry's own name)
    status: str = ""


class _Node(msgspec.Struct, frozen=True):
    latest_version: _Version | None = None


@dataclass(frozen=True)
class Named:
    """`ID`, `ID@VERSION` or either behind `registry:`."""

    source: Source
    version: str | None


def parse(text: str) -> Named | None:
    """None for what cannot be the id of a registered pack."""
    match = _TEXT.fullmatch(text)
    if match is None or ".." in match["id"]:
        return None
    name = f"{REGISTRY}{match['id']}"
    return Named(Source(name, name, local=False), match["version"])


def take(git: Git, source: Source, ref: str | None) -> None:
    """Have the version `ref` (None: the newest) in the cache of `source`. One that is there is not asked for again.

    Raises `not_found`, `network`, and `bad_source` for a version that the registry has withdrawn.
    """
    if ref and any(ref in (one.version, one.commit) for one in archives(git, source)):
        return
    node = _id(source)
    if ref:
        found = _ask(f"/nodes/{node}/versions/{quote(ref, safe='')}", _Version, f"`{node}` of version `{ref}`")
    else:
        latest = _ask(f"/nodes/{node}", _Node, f"`{node}`").latest_version
        if latest is None:
            raise GovError(Code.NOT_FOUND, f"the node registry has no version of `{node}`", "give its git URL")
        found = latest
    _have(git, source, found, newest=ref is None)


def find_commit(git: Git, source: Source, commit: str) -> bool:
    """Look for the version whose files are `commit`, from the newest on; what is fetched on the way stays."""
    listed = _ask(f"/nodes/{_id(source)}/versions", list[_Version], f"`{_id(source)}`")
    for one in listed[:_MOST_VERSIONS_LOOKED_AT]:
        if not one.status.endswith(_REFUSED):
            _have(git, source, one, newest=False)
        if git.has_commit(source, commit):
            return True
    return False


def archives(git: Git, source: Source) -> tuple[Archive, ...]:
    """What has been fetched of a pack."""
    try:
        return msgspec.json.decode((git.cache_of(source) / _RECORD).read_bytes(), type=tuple[Archive, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


def sum_of(git: Git, source: Source, commit: str) -> str:
    """`sha256:…` of the archive that `commit` was made of; empty for everything else."""
    if not source.public.startswith(REGISTRY):
        return ""
    return next((f"sha256:{one.sha256}" for one in archives(git, source) if one.commit == commit), "")


def _id(source: Source) -> str:
    return source.public.removeprefix(REGISTRY)


def _have(git: Git, source: Source, found: _Version, *, newest: bool) -> None:
    if found.status.endswith(_REFUSED):
        words = found.status.removeprefix("NodeVersionStatus").lower()
        problem = f"version {found.version} of `{_id(source)}` is {words} in the node registry"
        raise GovError(Code.BAD_SOURCE, problem, f"gov node add {_id(source)}@VERSION names another")
    known = next((one for one in archives(git, source) if one.version == found.version), None)
    if known is None:
        known = _fetched(git, source, found)
    git.name_version(source, known.version, known.commit, newest=newest)


def _fetched(git: Git, source: Source, found: _Version) -> Archive:
    work = fs.beside(git.cache / "content" / _id(source), "archive")
    fs.remove_tree(work)
    (work / "files").mkdir(parents=True)
    try:
        with fs.explained(work):
            digest = _download(found, work / "archive.zip", _id(source))
            _unpack(work / "archive.zip", work / "files", f"{_id(source)} {found.version}")
            commit, _ = git_content.store(git, work / "files", work / "repository")
        git.receive(source, work / "repository", commit)
        made = Archive(found.version, found.downloadUrl, digest, commit)
        kept = sorted((*archives(git, source), made), key=lambda one: one.version)
        fs.write_atomic(git.cache_of(source) / _RECORD, msgspec.json.encode(kept))
    finally:
        fs.remove_tree(work)
    return made


def _ask(route: str, kind: Any, what: str) -> Any:  # noqa: ANN401 (msgspec's own shape)
    address = http.endpoint((ENDPOINT_VARIABLE,), _PUBLIC) + route
    client = http.Http()
    try:
        body = client.get(http.Request(address)).read_all(_MAX_ANSWER_BYTES)
        return msgspec.json.decode(body, type=kind)
    except http.HttpFailure as error:
        if error.status == 404:
            raise GovError(Code.NOT_FOUND, f"the node registry knows no {what}", "give its git URL") from error
        problem = f"the node registry does not answer about {what}: {error}"
        raise GovError(Code.NETWORK, problem, "give its git URL, or try again later") from error
    except msgspec.MsgspecError as error:
        raise GovError(Code.NETWORK, f"the node registry says of {what} what is no answer: {error}") from error
    finally:
        client.close()


def _download(found: _Version, target: Path, node: str) -> str:
    """Write the archive; its sha256."""
    if not found.downloadUrl.startswith(("https://", "http://")):
        problem = f"the node registry names no archive for `{node}` {found.version}"
        raise GovError(Code.NETWORK, problem, "give its git URL")
    client, digest = http.Http(), hashlib.sha256()
    try:
        answer = client.get(http.Request(found.downloadUrl))
        with target.open("wb") as file:
            for part in _parts(answer):
                digest.update(part)
                file.write(part)
    except http.HttpFailure as error:
        problem = f"the archive of `{node}` {found.version} could not be had: {error}"
        raise GovError(Code.NETWORK, problem, "run the command again") from error
    finally:
        client.close()
    return digest.hexdigest()


def _parts(answer: http.Answer) -> Iterator[bytes]:
    count = 0
    while part := answer.read(1 << 20):
        count += len(part)
        if count > _MAX_ARCHIVE_BYTES:
            raise http.HttpFailure(f"it has more than {_MAX_ARCHIVE_BYTES} bytes", transient=False)
        yield part


def _unpack(archive: Path, folder: Path, what: str) -> None:
    """Plain files only, and only into `folder`."""
    import shutil
    import zipfile

    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            odd = next((entry.filename for entry in entries if not _is_plain(entry)), None)
            if odd is not None or sum(entry.file_size for entry in entries) > _MAX_UNPACKED_BYTES:
                said = f"`{odd[:200]}` leaves it" if odd else "it is too large"
                raise GovError(Code.BAD_SOURCE, f"the archive of {what} is not taken: {said}", "give its git URL")
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                if (entry.external_attr >> 16) & 0o100:
                    target.chmod(0o755)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise GovError(Code.BAD_SOURCE, f"the archive of {what} cannot be read: {error}", "give its git URL") from error


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    kind, parts = (entry.external_attr >> 16) & 0o170000, PurePosixPath(entry.filename).parts
    odd = any(part in ("..", "/") or part.lower() == ".git" or "\\" in part or "\0" in part for part in parts)
    return kind in (0, 0o100000) and bool(parts) and not odd and not entry.filename.startswith("/")
