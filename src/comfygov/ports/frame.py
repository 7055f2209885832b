"""The frame of an environment, which says whose it is: read, never asked.

Code of the packages in an environment runs whenever its Python starts (a `.pth` file of theirs is enough, also under
`-I`), so nothing outside of a sandbox may start that of an environment that was not promoted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def frame_problems(environment: Path, python: str) -> list[str]:
    """What makes an environment another one than that of `python`, or none: without its pyvenv.cfg,
    `bin/python` is the base Python itself, and whoever installs there installs into that."""
    try:
        lines = (environment / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ["pyvenv.cfg is missing"]
    config = dict(line.split(" = ", 1) for line in lines if " = " in line)
    problems = []
    real = os.path.realpath(python)
    # A home may be a folder of links to the real one (Homebrew).
    if os.path.realpath(os.path.join(config.get("home", ""), os.path.basename(real))) != real:  # noqa: PTH118, PTH119
        problems.append(f"pyvenv.cfg names {config.get('home', 'no Python')}, not the folder of {python}")
    if config.get("include-system-site-packages") != "false":
        problems.append("pyvenv.cfg lets the packages of the system in")
    if os.path.realpath(environment / "bin" / "python") != real:
        problems.append(f"bin/python does not lead to {python}")
    elif not os.access(python, os.X_OK):
        problems.append(f"the Python {python} is not there")
    return problems
