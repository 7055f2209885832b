"""What a command printed with `--json`, held against the published schema."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastjsonschema

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEMA = Path(__file__).parent.parent.parent / "docs" / "json-output.schema.json"


@functools.cache
def _validator() -> Callable[[Any], Any]:
    compiled: Callable[[Any], Any] = fastjsonschema.compile(json.loads(_SCHEMA.read_bytes()))
    return compiled


def read(text: str) -> dict[str, Any]:
    """The envelope in `text`; fails where it is not one."""
    envelope: dict[str, Any] = json.loads(text)
    _validator()(envelope)
    return envelope
