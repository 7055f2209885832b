"""What one look at the machine found."""

from __future__ import annotations

from typing import Literal

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. `warn` works and could be better, `fail` keeps commands from working; `details` say
    more, `advice` what to do."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    words: str
    details: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
