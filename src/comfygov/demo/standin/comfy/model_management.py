"""The interrupt switch, where nodes expect to find it."""

import threading

_interrupted = threading.Event()


class InterruptProcessingException(Exception):
    """Raised inside a node when the user asked to stop."""


def interrupt_current_processing(value: bool = True) -> None:  # noqa: FBT001, FBT002 - the signature nodes call
    """Ask the running prompt to stop, or take the request back."""
    if value:
        _interrupted.set()
    else:
        _interrupted.clear()


def processing_interrupted() -> bool:
    """Say whether a stop is asked for."""
    return _interrupted.is_set()


def throw_exception_if_processing_interrupted() -> None:
    """Raise once if a stop is asked for."""
    if _interrupted.is_set():
        _interrupted.clear()
        raise InterruptProcessingException
