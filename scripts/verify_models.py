#!/usr/bin/env python3
"""`gov models verify` under the name that first users know: --lock F --models-dir D [--overwrite] [--jobs N]."""

import os
import sys
from pathlib import Path

gov = Path(__file__).resolve().parent.parent / "bin" / "gov"
os.execv(gov, [str(gov), "models", "verify", *sys.argv[1:]])  # noqa: S606 (no shell is the point)
