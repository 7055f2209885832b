"""git's sums of trees and files, computed without git: an image proves with them that its code is the lock's.

Objects are `sha1("TYPE SIZE\\0" + content)` (sha256 in repositories of that kind), see git's gitformat-index and
https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from comfygov.model.image import CodeEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from comfygov.model.image import CodeTree
    from comfygov.model.version import PatchedFile

SUBMODULE = "160000"
LINK = "120000"
_FOLDER = "40000"
_MANY = 20


class Expected(NamedTuple):
    """What a file shall be: git's mode, and its blob, or the sha256 of its bytes."""

    mode: str
    blob: str = ""
    sha256: str = ""


def object_id(kind: str, content: bytes, like: str) -> str:
    """The id of an object, by the same hash as the id `like`."""
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(usedforsecurity=False)
    digest.update(f"{kind} {len(content)}\0".encode())
    digest.update(content)
    return digest.hexdigest()


def tree_id(entries: Iterable[CodeEntry], like: str) -> str:
    """The id of the tree that holds `entries`, whose paths are below it."""
    return _tree([(name_of(entry), entry) for entry in entries], like)


def name_of(entry: CodeEntry) -> str:
    """The path as the system spells it."""
    return os.fsdecode(unquote_to_bytes(entry.path)) if entry.quoted else entry.path


def named(path: str, mode: str, at: str, written: str = "") -> CodeEntry:
    """The entry for a path as the system spells it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return CodeEntry(quote_from_bytes(os.fsencode(path)), mode, at, written, quoted=True)
    return CodeEntry(path, mode, at, written)


def _tree(entries: Sequence[tuple[str, CodeEntry]], like: str) -> str:
    rows: list[tuple[bytes, str, bytes, str]] = []
    below: dict[str, list[tuple[str, CodeEntry]]] = {}
    for path, entry in entries:
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, []).append((rest, entry))
        else:
            rows.append((_raw(name), entry.mode, _raw(name), entry.id))
    for name, inside in below.items():
        rows.append((_raw(name) + b"/", _FOLDER, _raw(name), _tree(inside, like)))  # git sorts folders so
    content = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(at) for _, mode, name, at in sorted(rows))
    return object_id("tree", content, like)


def _raw(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def unproven(trees: Sequence[CodeTree], tree: str) -> Iterator[str]:
    """Why these trees are not the one with the id `tree` and its submodules: nothing when they are."""
    by_place = {one.place: one for one in trees}
    top = by_place.get("")
    if top is None or tree_id(top.entries, tree) != tree:
        yield f"its list of files is not that of the tree {tree}"
        return
    links = {f"{_below(one.place)}{name_of(e)}": e.id for one in trees for e in one.entries if e.mode == SUBMODULE}
    for place, one in by_place.items():
        if place and (links.get(place) != one.commit or not _is_commit(one)):
            yield f"its list of files for the submodule {place} is not that of the commit {one.commit}"


def _is_commit(tree: CodeTree) -> bool:
    content = base64.b64decode(tree.commit_object)
    files = content.partition(b"\n")[0].removeprefix(b"tree ").decode(errors="replace")
    return object_id("commit", content, tree.commit) == tree.commit and tree_id(tree.entries, tree.commit) == files


def _below(place: str) -> str:
    return f"{place}/" if place else ""


def expected(trees: Sequence[CodeTree], patch: Sequence[PatchedFile]) -> dict[str, Expected]:
    """Path -> what lies there, for the files of the trees with the edits of the lock on top."""
    found: dict[str, Expected] = {}
    for tree in trees:
        for entry in tree.entries:
            if entry.mode != SUBMODULE:
                blob = "" if entry.written else entry.id
                found[f"{_below(tree.place)}{name_of(entry)}"] = Expected(entry.mode, blob, entry.written)
    for file in patch:
        found.pop(file.path, None)
        if file.sha256 is not None:
            found[file.path] = Expected(file.mode, sha256=file.sha256)
    return found


def differences(
    root: Path, wanted: dict[str, Expected], *, leave: frozenset[str] = frozenset(), others: bool = True
) -> list[str]:
    """What in the folder `root` is not as `wanted`. Bytecode, and what is at or below `leave`, is not looked at;
    without `others` no other file is."""
    lines = [f"{name} {problem}" for name, one in sorted(wanted.items()) if (problem := _problem(root, name, one))]
    if others:
        lines += [f"{name} belongs to no commit" for name in _others(root, wanted, leave)]
    lines = [line.encode(errors="surrogateescape").decode(errors="replace") for line in lines]
    more = len(lines) - _MANY
    return [*lines[:_MANY], f"and {more} more files"] if more > 0 else lines


def _problem(root: Path, name: str, wanted: Expected) -> str:
    path = f"{root}/{name}"
    try:
        facts = os.lstat(path)
        content = _content(path, facts)
    except OSError:
        return "is missing"
    if content is None or mode_of(facts) != wanted.mode:
        return "is of another kind"
    if wanted.sha256:
        return "" if hashlib.sha256(content).hexdigest() == wanted.sha256 else "is not what the lock says"
    return "" if object_id("blob", content, wanted.blob) == wanted.blob else "is not as its commit has it"


def _content(path: str, facts: os.stat_result) -> bytes | None:
    if stat.S_ISLNK(facts.st_mode):
        return os.fsencode(os.readlink(path))  # noqa: PTH115
    if not stat.S_ISREG(facts.st_mode):
        return None
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def mode_of(facts: os.stat_result) -> str:
    if stat.S_ISLNK(facts.st_mode):
        return LINK
    return "100755" if facts.st_mode & stat.S_IXUSR else "100644"


def _others(root: Path, wanted: dict[str, Expected], leave: frozenset[str]) -> Iterator[str]:
    for top, folders, names in os.walk(root):
        inside = os.path.relpath(top, root)
        folders[:] = sorted(name for name in folders if os.path.normpath(f"{inside}/{name}") not in leave)
        is_bytecode = os.path.basename(top) == "__pycache__"  # noqa: PTH119
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]  # noqa: PTH114, PTH118
        for name in sorted({*names, *links}):
            path = os.path.normpath(f"{inside}/{name}")
            if path not in wanted and path not in leave and not (is_bytecode and name.endswith(".pyc")):
                yield path
