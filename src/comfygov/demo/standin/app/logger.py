"""Plain log lines on stderr, or on stdout when asked, as the real program prints them."""

import logging
import sys


def _handler(stream: object, keep: "object" = None) -> logging.Handler:
    handler = logging.StreamHandler(stream)  # type: ignore[arg-type]
    handler.setFormatter(logging.Formatter("%(message)s"))
    if callable(keep):
        handler.addFilter(keep)
    return handler


def setup_logger(level: str, use_stdout: bool) -> None:  # noqa: FBT001 - as the real one
    """Make the root logger print bare messages; with stdout only errors go to stderr."""
    root = logging.getLogger()
    root.setLevel(level)
    if not use_stdout:
        root.addHandler(_handler(sys.stderr))
        return
    root.addHandler(_handler(sys.stdout, lambda record: record.levelno < logging.ERROR))
    root.addHandler(_handler(sys.stderr, lambda record: record.levelno >= logging.ERROR))
