"""Words that must not be written down: credentials in URLs, and what the environment holds under a secret's name."""

from __future__ import annotations

import os
import re

from comfygov.ports.source import without_credentials

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASS(W|PHRASE)|CREDENTIAL|API_?KEY|(ACCESS|PRIVATE)_KEY|AUTH|(^|_)PAT($|_)", re.IGNORECASE
)
_SECRET_OPTION = re.compile(r"(--[\w-]*(?:token|secret|passw|api-?key)[\w-]*[= ])(?:'[^']*'|\S+)", re.IGNORECASE)
_MIN_LENGTH = 6
"""A shorter value would be found in words that are none."""
HIDDEN = "***"


def hidden(text: str) -> str:
    """`text` without secrets, for records, messages and logs of ours."""
    text = _SECRET_OPTION.sub(rf"\1{HIDDEN}", without_credentials(text))
    for value in _secret_values():
        text = text.replace(value, HIDDEN)
    return text


def _secret_values() -> list[str]:
    """Longest first, so that none is left in half."""
    values = (value for name, value in os.environ.items() if _SECRET_NAME.search(name))
    # A path (SSH_AUTH_SOCK, XAUTHORITY) tells where a secret is, not what it is.
    secrets = (value for value in values if len(value) >= _MIN_LENGTH and not value.startswith("/"))
    return sorted(secrets, key=len, reverse=True)
