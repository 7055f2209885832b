"""Runs in the build of an image, from its context: makes bytecode where there is none yet.

What an earlier layer compiled stays there and is not written again. The bytecode is not compared with its source at
run time (`unchecked-hash`): an engine may give files other times, and the image is read-only anyway.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import cache_from_source


def missing(folder: str) -> list[str]:
    """Modules below `folder` without bytecode."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        paths = (os.path.join(top, name) for name in sorted(names) if name.endswith(".py"))  # noqa: PTH118
        found += [path for path in paths if not os.path.exists(cache_from_source(path))]  # noqa: PTH110
    return found


def compile_one(path: str) -> None:
    """A module that is no valid Python (templates of packages) is left as it is."""
    compileall.compile_file(path, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def main() -> None:
    """Compile what is below the folders that the command line names, on all cores where the system lets us."""
    paths = [path for folder in sys.argv[1:] for path in missing(folder)]
    try:
        with ProcessPoolExecutor() as pool:
            list(pool.map(compile_one, paths, chunksize=20))
    except (OSError, NotImplementedError):  # a build without /dev/shm has no semaphores
        for path in paths:
            compile_one(path)


if __name__ == "__main__":
    main()
