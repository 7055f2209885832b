"""The one exclusive lock of a home. It names its holder; the kernel drops it when the holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import LockHolder
from comfygov.ports import clock, identity, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_POLL_SECONDS = 0.05
_ORPHANS_TIMES = 12
"""A uv or git that outlives its killed command ends by itself (a real environment: 10 s): it is waited for longer."""
# What flock(2) says where there are no locks; `works` tells.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def holder(path: Path) -> LockHolder | None:
    """Who holds the lock, or None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(descriptor):
            return None
        return _read_holder(path)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path, command: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock for the block; wait at most `wait_seconds` for it, then raise `busy`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        _acquire(descriptor, path, wait_seconds)
        with process.descriptors_change:
            process.held_open.add(descriptor)
        record = LockHolder(os.getpid(), command, clock.now())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(record) + b"\n", 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        with process.descriptors_change:
            process.held_open.discard(descriptor)
            _unlock(descriptor)
            os.close(descriptor)


def keep(path: Path) -> None:
    """Hold the lock of a file for as long as this process lives, whatever it becomes by exec."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    _try_lock(descriptor)
    os.set_inheritable(descriptor, True)  # noqa: FBT003 (takes no name)


def _unlock(descriptor: int) -> None:
    """Let go at once: a child that outlives us may have the descriptor open."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def works(path: Path) -> bool:
    """False where the file system grants one lock twice, or none (some network and FUSE file systems)."""
    try:
        first, second = (os.open(path, os.O_RDONLY) for _ in range(2))
    except FileNotFoundError:
        return True
    try:
        # Two descriptions of one file are two strangers to the kernel.
        return not _try_lock(first) or not _try_lock(second)
    finally:
        os.close(first)
        os.close(second)


def _acquire(descriptor: int, path: Path, wait_seconds: float) -> None:
    started = time.monotonic()
    while not _try_lock(descriptor):
        waited = time.monotonic() - started
        if waited > wait_seconds and (waited > _ORPHANS_TIMES * wait_seconds or not _is_orphaned(path)):
            raise _busy(path)
        time.sleep(_POLL_SECONDS)


def _is_orphaned(path: Path) -> bool:
    """Whether the holder is dead, and only what it had started still works."""
    found = _read_holder(path)
    return found is not None and found.pid > 0 and identity.started_at(found.pid) is None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _read_holder(path: Path) -> LockHolder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LockHolder)
    except (OSError, msgspec.MsgspecError):
        return LockHolder(0, "a command that has not said its name yet", "")


def _busy(path: Path) -> GovError:
    found = _read_holder(path)
    who = f"`{found.command}` (pid {found.pid}, since {found.since})" if found and found.pid else "another command"
    if _is_orphaned(path):
        who = f"what {who} has started, before it was killed,"
    return GovError(Code.BUSY, f"the home is busy: {who} is changing it", "wait until it is done, then run this again")


@contextmanager
def passing(path: Path, command: str, wait_seconds: float, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock whose file goes with it; `waiting` is called while somebody else has it, and may raise.

    For locks of which there are thousands, such as one for each download. Raises `busy`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    descriptor = -1
    while descriptor < 0:
        descriptor = _take_passing(path)
        if descriptor < 0:
            if time.monotonic() > deadline:
                raise GovError(Code.BUSY, f"another command holds {path.name}", "wait until it is done")
            waiting()
            time.sleep(_POLL_SECONDS)
    try:
        os.pwrite(descriptor, msgspec.json.encode(LockHolder(os.getpid(), command, clock.now())) + b"\n", 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still ours: whoever waits sees that the name has gone
        os.close(descriptor)


def _take_passing(path: Path) -> int:
    """A descriptor that holds the lock of the file that has the name now; -1 when it is not to be had."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        if _try_lock(descriptor) and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except FileNotFoundError:
        pass  # its holder has just gone
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return -1
