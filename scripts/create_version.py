#!/usr/bin/env python3
"""`gov version create` under the name that first users know: --name N --comfy-repo URL [--custom-node …]…"""

import os
import sys
from pathlib import Path

gov = Path(__file__).resolve().parent.parent / "bin" / "gov"
os.execv(gov, [str(gov), "version", "create", *sys.argv[1:]])  # noqa: S606 (no shell is the point)
