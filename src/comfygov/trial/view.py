"""What a trial sees of the disk: everything that programs need, and nothing that is only the person's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Other people's homes, sockets of services (docker, keyrings), mounted secrets, what other programs left.
_PRIVATE = ("/home", "/root", "/run", "/var/run", "/tmp", "/var/tmp", "/var/lib/docker", "/etc/shadow", "/etc/gshadow")  # noqa: S108
_CREDENTIAL_VARIABLES = (
    *("GOOGLE_APPLICATION_CREDENTIALS", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "KUBECONFIG"),
    *("NETRC", "DOCKER_CONFIG", "HF_HOME", "HF_TOKEN_PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "CLOUDSDK_CONFIG"),
)
# A name server's address and a graphics driver may lie below /run.
_NEEDED = ("/etc/resolv.conf", "/run/opengl-driver", "/run/nvidia-persistenced")
_SYSTEM = frozenset(map(Path, ("/", "/usr", "/usr/local", "/opt", "/etc", "/var")))


@dataclass(frozen=True)
class View:
    """Of two paths that hold a file the longer one says whether it is seen; what neither holds is seen."""

    hidden: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()

    def sees(self, path: Path) -> bool:
        """What the nearest of `path` and its parents that is named here says."""
        for place in (path, *path.parents):
            if place in self.shown or place in self.hidden:
                return place in self.shown
        return True

    def with_arguments(self, argv: Sequence[str]) -> View:
        """The folders of the files that a person's own command names are seen too, but no whole home."""
        found = (Path(word) for word in argv if word.startswith("/"))
        paths = [path.resolve() for path in found if _is_there(path)]
        folders = [path if path.is_dir() or path.parent in self.hidden else path.parent for path in paths]
        wanted = [path for path in folders if not self.sees(path) and path not in self.hidden]
        return replace(self, shown=(*self.shown, *wanted)) if wanted else self

    def readable(self, start: Path = Path("/")) -> Iterator[Path]:
        """The fewest files and folders that hold all that is seen, for a system that can only allow."""
        named = {*self.hidden, *self.shown}
        if not any(start in path.parents for path in named):
            if self.sees(start):
                yield start
            return
        below = {*_children(start)} if self.sees(start) else set()
        below |= {start / path.relative_to(start).parts[0] for path in named if start in path.parents}
        for path in sorted(below):
            if _is_there(path) and not path.is_symlink():
                yield from self.readable(path)


def _is_there(path: Path) -> bool:
    """False also for what cannot even be looked for."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises where a folder may not be entered)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def view(needed: Iterable[Path], private: Iterable[Path] = ()) -> View:
    """The view of a trial that needs to read `needed`, and that is to see nothing of `private`.

    A whole home is never needed: of one that is asked for (a Python in ~/.local) its `bin` and `lib` are.
    """
    homes = {Path.home(), Path(os.path.expanduser(f"~{os.environ.get('USER', '')}"))}  # noqa: PTH111 (may be nobody)
    named = (os.environ.get(name, "") for name in _CREDENTIAL_VARIABLES)
    hidden = {*homes, *map(Path, _PRIVATE), *(Path(value) for value in named if value.startswith("/"))}
    hidden = {path.resolve() for path in hidden if _is_there(path)} - _SYSTEM
    wanted = {path.resolve() for path in (*needed, *map(Path, _NEEDED)) if _is_there(path)}
    shown = set()
    for path in wanted:
        whole = any(path == place or path in place.parents for place in hidden)
        shown |= {part for part in (path / "bin", path / "lib") if part.is_dir()} if whole else {path}
    hidden |= {path.resolve() for path in private if _is_there(path)} - shown
    return View(tuple(sorted(hidden)), tuple(sorted(shown - _SYSTEM)))
