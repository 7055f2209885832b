"""Python imports this by itself at every start. It must never be why a program fails."""

from __future__ import annotations

import sys
from pathlib import Path


def _start() -> None:
    try:
        import comfygov_inside  # type: ignore[import-not-found]

        comfygov_inside.start()
    except Exception as error:  # noqa: BLE001 (a program that is watched must run as if it were not)
        sys.stderr.write(f"comfygov: this process is not observed: {error!r}\n")


def _run_the_other() -> None:
    """The machine's own sitecustomize, which this one stands before."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = str(Path(__file__).parent)
    spec = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if entry != here])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


_start()
_run_the_other()
