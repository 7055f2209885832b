"""File system steps that survive a kill: atomic writes, links, hardlinked trees, careful removal."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Below this many folders nothing is gained by threads.
_MANY_FOLDERS, _REMOVERS = 32, 8
_NO_SUCH_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_NO_HARDLINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into sentences about `path`."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, path) from error


def explain_os_error(error: OSError, path: Path | None = None) -> GovError:
    """The GovError for `error`; unknown ones keep the system's words."""
    where = _without_marks(str(error.filename or path or "a file"))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GovError(
            Code.DISK_FULL,
            f"the disk that holds {where} is full"
            if error.filename or path
            else "a disk is full: the home's, cache's or TMPDIR's",
            "free space, then run the command again",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "mount it so that it can be written" if error.errno == errno.EROFS else "check its owner and mode"
        return GovError(Code.PERMISSION, f"{where} cannot be written: {error.strerror}", hint)
    hint = "name another place" if error.errno in _NO_SUCH_PLACE else "check the disk that holds it"
    return GovError(Code.TOOL_FAILED, f"{where}: {error.strerror or error}", hint)


def _without_marks(where: str) -> str:
    """The file that is meant, where the one that failed lay beside it for a moment."""
    found = re.compile(r"(?<=/)\.([^/]+)\.\d+\.comfygov-[a-z]+(?=/|$)")
    while found.search(where):
        where = found.sub(r"\1", where)
    return where


_LEFTOVER = re.compile(r"\..+\.(?P<pid>\d+)\.comfygov-[a-z]+")


def beside(path: Path, purpose: str) -> Path:
    """A name next to `path` for something under way: nobody else uses such names, so that `gov gc` may take
    what a dead process left."""
    return path.with_name(f".{path.name}.{os.getpid()}.comfygov-{purpose}")


def leftover_of(name: str) -> int | None:
    """The process whose unfinished step has left a file of this name; None for every other name."""
    match = _LEFTOVER.fullmatch(name)
    return int(match["pid"]) if match else None


def leftovers(folder: Path) -> Iterator[Path]:
    """Files below `folder` that commands left under way and that are dead now."""
    from comfygov.ports import identity

    for path in folder.iterdir() if folder.is_dir() else ():
        pid = leftover_of(path.name)
        if pid is not None and identity.started_at(pid) is None:
            yield path


def remove_leftovers(folder: Path) -> None:
    """A model half copied is worth gigabytes; what cannot be removed stays."""
    try:
        for path in leftovers(folder):
            path.unlink()
    except OSError:
        return


def create_atomic(path: Path, data: bytes) -> bool:
    """Write a file that is not there yet; False when it is. Nobody ever sees it without its content, but where
    there are no hardlinks."""
    temporary = beside(path, "tmp")
    write_atomic(temporary, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARDLINK:
            raise
        return _create_and_replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_directory(path.parent)
    return True


def _create_and_replace(temporary: Path, path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    temporary.replace(path)
    fsync_directory(path.parent)
    return True


def flush_file_system(path: Path) -> None:
    """Wait until everything on the file system of `path` is on disk (Linux syncfs, else sync)."""
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` so that a reader, or a kill at any moment, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path, "tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        faults.point("write.staged")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    faults.point("write.replaced")
    fsync_directory(path.parent)


def write_if_changed(path: Path, data: bytes) -> bool:
    """Write atomically unless the file already holds `data`; True when it was written."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return False
    write_atomic(path, data)
    return True


def append_line(path: Path, line: bytes) -> None:
    """Append one line and wait until it is on disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        rest = line.rstrip(b"\n") + b"\n"
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    faults.point("line.appended")


def refuse_other_than_link(path: Path) -> None:
    if path.exists() and not path.is_symlink():
        raise GovError(
            Code.ALREADY_EXISTS,
            f"{path} is in the way: it is not a link",
            f"move it aside (`mv {path} {path}.old`) and run the command again",
        )


def flip_link(link: Path, target: str) -> bool:
    """Make `link` a symbolic link to `target` with one rename; True when it changed."""
    if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115 (Path.readlink normalises)
        return False
    refuse_other_than_link(link)
    temporary = beside(link, "tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    faults.point("link.staged")
    temporary.replace(link)
    faults.point("link.flipped")
    fsync_directory(link.parent)
    return True


def link_or_copy(source: str, target: str) -> None:
    """Hardlink `source`, or copy it where the file system has no hardlinks."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARDLINK:
            raise
        import shutil  # 4 ms that `gov status` does not need

        shutil.copy2(source, target, follow_symlinks=False)


def hardlink_tree(
    source: Path,
    target: Path,
    *,
    skip: frozenset[str] = frozenset(),
    wanted: Callable[[str], bool] = lambda _path: True,
) -> None:
    """Make `target` a tree of hardlinks to `source`; names in `skip` are left out at the top level, and files
    that are not `wanted` everywhere."""

    def link(from_file: str, to_file: str) -> None:
        if wanted(from_file):
            link_or_copy(from_file, to_file)

    _each_entry(source, target, skip, link)


def unshare_tree(path: Path) -> None:
    """Give every file of a hardlinked tree its own bytes (reflinked where the system can do that)."""
    import sys

    from comfygov.ports import process

    own = beside(path, "own")
    remove_tree(own)
    clone = ["-cRp"] if sys.platform == "darwin" else ["-a", "--reflink=auto"]
    done = process.run(["cp", *clone, "--", str(path), str(own)], timeout_seconds=1800)
    if done.exit_code != 0:
        remove_tree(own)
        raise GovError(
            Code.TOOL_FAILED, f"{path} could not be copied", "check the space and the rights there", (done.words,)
        )
    remove_tree(path)
    own.rename(path)


def _each_entry(source: Path, target: Path, skip: frozenset[str], make_file: Callable[[str, str], None]) -> None:
    pending = [(str(source), str(target), skip)]
    while pending:
        from_dir, to_dir, skipped = pending.pop()
        os.mkdir(to_dir)  # noqa: PTH102 (40 000 files: Path objects would double the time)
        with os.scandir(from_dir) as entries:
            for entry in entries:
                if entry.name in skipped:
                    continue
                made = f"{to_dir}/{entry.name}"
                if entry.is_symlink():
                    os.symlink(os.readlink(entry.path), made)  # noqa: PTH115, PTH211
                elif entry.is_dir():
                    pending.append((entry.path, made, frozenset()))
                else:
                    make_file(entry.path, made)


def remove_tree(path: Path) -> None:
    """Remove a directory that comfygov made. It is renamed first, so that a kill leaves no half of it
    under its own name; a link is removed and never followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if not path.exists():
        return
    import shutil

    doomed = beside(path, "doomed")
    path.rename(doomed)
    faults.point("tree.doomed")
    try:
        _thin_out(str(doomed))
        if doomed.exists():
            shutil.rmtree(doomed, onerror=_make_writable_and_retry)
    except RecursionError:
        from comfygov.ports import process

        process.run(["rm", "-rf", "--", str(doomed)], timeout_seconds=600)


def _thin_out(path: str) -> None:
    """Remove most of a tree with many folders, several at a time: where the disk discards what is freed, each file
    and folder takes 2 ms. What refuses is left, for the way that opens folders up."""
    folders = [path]
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    if len(folders) < _MANY_FOLDERS:
        return
    from concurrent.futures import ThreadPoolExecutor
    from itertools import groupby

    with ThreadPoolExecutor(_REMOVERS) as pool:
        list(pool.map(_unlink_files, folders))
        for _, level in groupby(reversed(folders), key=lambda folder: folder.count("/")):
            list(pool.map(_remove_empty, level))


def _remove_empty(folder: str) -> None:
    try:
        os.rmdir(folder)  # noqa: PTH106
    except OSError:
        return


def _unlink_files(folder: str) -> None:
    try:
        with os.scandir(folder) as entries:
            names = [entry.path for entry in entries if not entry.is_dir(follow_symlinks=False)]
        for name in names:
            os.unlink(name)  # noqa: PTH108
    except OSError:
        return


def move_tree(source: Path, target: Path) -> None:
    """Move a directory, also to another file system."""
    import shutil

    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(str(source), str(target))


def _make_writable_and_retry(_function: Callable[[str], object], path: str, _error: object) -> None:
    """Folders that packs made unreadable or read-only are opened up; the rest is an error as it was."""
    import shutil

    os.chmod(os.path.dirname(path), stat.S_IRWXU)  # noqa: PTH101, PTH120
    if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
        os.chmod(path, stat.S_IRWXU)  # noqa: PTH101
        shutil.rmtree(path)
    else:
        os.unlink(path)  # noqa: PTH108


def free_bytes(path: Path) -> int:
    import shutil

    return shutil.disk_usage(path).free
