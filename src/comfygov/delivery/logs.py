"""ComfyUI's log while it runs: shown as it comes, and never larger than a bound (a worker's disk may be memory)."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_POLL_SECONDS = 0.2
_MAX_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20
_TAIL_LINES = 25
_MAX_LINE_CHARACTERS = 2000


class Follower:
    """Reads what is appended to `path`, hands each line to `say`, and cuts the file when it grows too large: whoever
    writes appends, so that the next line is its first again."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._rest = b""
        self._position = 0
        self._end = threading.Event()
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="comfyui log")

    def start(self) -> None:
        self._path.touch()
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(5)

    def tail(self) -> tuple[str, ...]:
        """The last lines, read now."""
        self._read()
        return tuple(self._lines)

    def _follow(self) -> None:
        while not self._end.wait(_POLL_SECONDS):
            self._read()
        self._read()

    def _read(self) -> None:
        with self._reading:
            with self._path.open("rb") as file:
                file.seek(self._position)
                while piece := file.read(_PIECE_BYTES):
                    self._position += len(piece)
                    self._take(piece)
            if self._position > _MAX_BYTES:
                with self._path.open("ab") as file:
                    file.truncate(0)
                self._position = 0

    def _take(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _PIECE_BYTES:  # progress bars end in no newline for a long time
            lines, self._rest = [*lines, self._rest], b""
        for raw in lines:
            line = raw.decode(errors="replace").rsplit("\r", 1)[-1][:_MAX_LINE_CHARACTERS].rstrip()
            if line:
                self._lines.append(line)
                self._say(line)
