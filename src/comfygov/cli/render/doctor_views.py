"""What a machine can do, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.doctor import Examined

_SIGNS = {"pass": "ok  ", "warn": "warn", "fail": "FAIL"}


def doctor_lines(result: Examined) -> Iterator[str]:
    for check in result.checks:
        yield f"{_SIGNS[check.verdict]}  {check.name}: {check.words}"
        yield from (f"        {line}" for line in check.details)
        yield from (f"        to do: {line}" for line in check.advice)
