#!/usr/bin/env python3
"""drive_with_json.py URL: add, try and promote a pack as a program does: by envelopes and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def gov(*arguments: str) -> dict[str, Any]:
    """The envelope of a command. It is there whatever happens; `ok` says whether the command did what it should."""
    done = subprocess.run(["gov", "--json", *arguments], stdout=subprocess.PIPE, check=False)
    envelope: dict[str, Any] = json.loads(done.stdout)
    return envelope


def wanted(envelope: dict[str, Any]) -> Any:
    """The data, or the end of this program with the reason and the command that helps."""
    if not envelope["ok"]:
        error = envelope["error"]
        sys.exit(f"{error['code']}: {error['message']}\ntry: {error['hint']}")
    return envelope["data"]


def main() -> None:
    pack = wanted(gov("node", "add", sys.argv[1]))["plugin"]["id"]
    trial = wanted(gov("tx", "run", pack))
    if trial["blockers"]:
        sys.exit("\n".join(trial["blockers"]))  # a person decides: core packages change, or a check failed
    done = wanted(gov("tx", "promote", trial["transaction"]["txid"]))
    print(f"{pack} is in production, snapshot {done['snapshot']['id']}")


if __name__ == "__main__":
    main()
