"""Files of a working tree that are not as their commit has them: taken into a lock, and put in place from one."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import unicodedata
from typing import TYPE_CHECKING, Literal

from comfygov.errors import Code, GovError
from comfygov.model.version import PatchedFile
from comfygov.ports import fs, git_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from comfygov.ports.git import Git

MAX_FILE_BYTES = 4_000_000
MAX_TOTAL_BYTES = 32_000_000
_BY_PRODUCT = ("__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache")
_OWN_FOLDERS = ("custom_nodes", "models", "output", "input", "temp", "user")
"""Folders of ComfyUI that hold what is not its code; packs in custom_nodes are locked on their own."""


def taken(git: Git, checkout: Path, commit: str, *, of_comfyui: bool = False) -> tuple[PatchedFile, ...]:
    """Edited, deleted and new files of `checkout`, its submodules included. What .gitignore names is no part of it.

    Raises `wrong_state` for what a lock cannot hold: files that are too large, submodules at other commits.
    """
    names = sorted(_names(git, checkout, commit, of_comfyui=of_comfyui))
    return _read_all(git_apart.work_tree(checkout), names)


def _names(git: Git, checkout: Path, commit: str, *, of_comfyui: bool) -> Iterator[str]:
    yield from git.edited(checkout)
    for name in git.untracked(checkout, ignored=False):
        parts = name.split("/")
        if _is_by_product(parts) or (of_comfyui and parts[0] in _OWN_FOLDERS):
            continue
        if not name.endswith("/"):  # a repository of its own inside
            yield name
    for path, _, sub_commit in git.submodules(checkout, commit):
        at = git.head(checkout / path)
        if at != sub_commit:
            message = f"the submodule {checkout / path} is at {at or 'nothing'}, not at {sub_commit}"
            hint = f"git -C {checkout} submodule update --init --recursive (in a home: gov sync)"
            raise GovError(Code.DRIFT, message, hint)
        yield from (f"{path}/{name}" for name in _names(git, checkout / path, sub_commit, of_comfyui=False))


def _is_by_product(parts: Sequence[str]) -> bool:
    return any(part in _BY_PRODUCT for part in parts) or parts[-1].endswith((".pyc", ".pyo"))


def all_files(root: Path) -> tuple[PatchedFile, ...]:
    """Every file of a folder that is no repository."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != ".git" and name not in _BY_PRODUCT)
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
        for name in (*files, *links):
            path = os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118
            if not _is_by_product(path.split("/")):
                found.append(path)
    return _read_all(root, sorted(found))


def _read_all(root: Path, names: Iterable[str]) -> tuple[PatchedFile, ...]:
    found, total = [], 0
    for name in names:
        file = _read(root, name)
        total += len(file.content or "")
        if total > MAX_TOTAL_BYTES:
            raise GovError(
                Code.WRONG_STATE,
                f"the edited and new files of {root} have more than {MAX_TOTAL_BYTES} bytes",
                "commit them to a repository, or let .gitignore name what is no code",
            )
        found.append(file)
    return tuple(found)


def _read(root: Path, name: str) -> PatchedFile:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = name.encode(errors="surrogateescape").decode(errors="replace")
        raise GovError(Code.WRONG_STATE, f"{root}/{shown}: its name is not UTF-8", "rename or remove it") from error
    path = root / name
    if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()):
        return PatchedFile(name)
    data, mode = _content(path)
    content, encoding = _encoded(data)
    return PatchedFile(name, hashlib.sha256(data).hexdigest(), mode, content, encoding)


def _content(path: Path) -> tuple[bytes, Literal["100644", "100755", "120000"]]:
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return os.readlink(path).encode(), "120000"  # noqa: PTH115
    if not stat.S_ISREG(facts.st_mode):
        raise GovError(Code.WRONG_STATE, f"{path} is no file that a lock can hold", "remove it, or let git ignore it")
    if facts.st_size > MAX_FILE_BYTES:
        raise GovError(
            Code.WRONG_STATE,
            f"{path} is edited or new, and with {facts.st_size} bytes too large for a lock",
            "commit it to a repository, or let .gitignore name it; models go through `gov models add`",
        )
    return path.read_bytes(), "100755" if facts.st_mode & stat.S_IXUSR else "100644"


def _encoded(data: bytes) -> tuple[str, Literal["text", "base64"]]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"
    return text, "text"


def judge(where: str, files: Sequence[PatchedFile]) -> None:
    """Raises `bad_config` for a path that leaves its folder or enters git's own, and for content that is not
    what its sum says."""
    seen: set[str] = set()
    for file in files:
        parts = file.path.split("/")
        odd = any(part in ("", ".", "..") or _is_git(part) or _is_odd(part) for part in parts)
        if odd or file.path.casefold() in seen:
            raise GovError(Code.BAD_CONFIG, f"{where}: `{file.path[:200]}` is no path of a file in it", _FROM_WHERE)
        seen.add(file.path.casefold())
        if (file.sha256 is None) != (file.content is None):
            raise GovError(Code.BAD_CONFIG, f"{where}: `{file.path}` has a sum or a content, not both", _FROM_WHERE)
        if file.content is not None and hashlib.sha256(_data(where, file)).hexdigest() != file.sha256:
            raise GovError(Code.BAD_CONFIG, f"{where}: the content of `{file.path}` was changed", _FROM_WHERE)
        if file.mode == "120000":
            _judge_link(where, file)


_FROM_WHERE = "take the lock again from where it was made"


def _judge_link(where: str, file: PatchedFile) -> None:
    target = _data(where, file).decode(errors="replace")
    depth = len(file.path.split("/")) - 1
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0 or target.startswith("/"):
            raise GovError(Code.BAD_CONFIG, f"{where}: the link `{file.path}` leaves its folder", _FROM_WHERE)


def _is_git(part: str) -> bool:
    """Also with characters between that some file systems (HFS+) do not see; compare CVE-2014-9390."""
    return "".join(c for c in part if unicodedata.category(c) != "Cf").lower() == ".git"


def _is_odd(part: str) -> bool:
    return "\\" in part or len(part.encode(errors="replace")) > 255 or any(ord(c) < 32 or ord(c) == 127 for c in part)


def _data(where: str, file: PatchedFile) -> bytes:
    try:
        text = file.content or ""
        return base64.b64decode(text, validate=True) if file.encoding == "base64" else text.encode()
    except (ValueError, UnicodeEncodeError) as error:
        raise GovError(Code.BAD_CONFIG, f"{where}: the content of `{file.path}` is damaged", _FROM_WHERE) from error


def put(root: Path, files: Sequence[PatchedFile]) -> None:
    """Make the files of `root` what a judged lock says; nothing is written through a link."""
    for file in files:
        path = root / file.path
        _refuse_link_above(root, path)
        if os.path.lexists(path):
            path.unlink()
        if file.content is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _data(file.path, file)
        if file.mode == "120000":
            path.symlink_to(data.decode())
        else:
            fs.write_atomic(path, data, mode=0o755 if file.mode == "100755" else 0o644)


def _refuse_link_above(root: Path, path: Path) -> None:
    for folder in path.parents:
        if folder == root:
            return
        if folder.is_symlink():
            raise GovError(Code.BAD_CONFIG, f"{path} would be written through the link {folder}", _FROM_WHERE)
