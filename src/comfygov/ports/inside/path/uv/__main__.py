"""`python -m uv`."""

from __future__ import annotations

import sys

import comfygov_installs  # type: ignore[import-not-found]

raise SystemExit(comfygov_installs.ask("uv", sys.argv[1:]))
