"""Under which settings git runs: what a person has set for their own work must not decide ours."""

from __future__ import annotations

import os

from comfygov.ports.source import ALLOWED_PROTOCOLS

_NEUTRAL = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "safe.bareRepository=all",
    # A checkout would reset submodules, and what was edited in them, before anybody has looked.
    "submodule.recurse=false",
    # The bytes of a commit are the bytes on disk, for the trial and for production.
    "core.autocrlf=false",
    "core.eol=lf",
    "core.safecrlf=false",
    "core.attributesFile=/dev/null",
    "core.sparseCheckout=false",
    "core.excludesFile=/dev/null",
    # A file that is not there ends every diff; an empty one orders nothing.
    "diff.orderFile=/dev/null",
    # A history that was cut off is better than none.
    "clone.rejectShallow=false",
    "fetch.prune=false",
    "fetch.pruneTags=false",
    # Both put other lines into what `git log` prints.
    "log.showSignature=false",
    "log.follow=false",
)
OPTIONS = tuple(word for setting in _NEUTRAL for word in ("-c", setting))

# Transport, and where a person's settings are: how bytes travel and who they are for, never which bytes.
_KEPT_PREFIXES = ("GIT_SSH", "GIT_SSL_", "GIT_HTTP_", "GIT_PROXY_", "GIT_TRACE", "GIT_CURL_VERBOSE")
_KEPT = frozenset(
    {
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH", "GIT_TEMPLATE_DIR"),
        "GIT_PROTOCOL",
    }
)


def environment() -> dict[str, str | None]:
    """What changes in the environment of a git. The list of what stays is closed: each new git brings variables
    that lead it to another repository (GIT_DIR), read paths otherwise (GIT_LITERAL_PATHSPECS), or store otherwise."""
    dropped = (name for name in os.environ if name.startswith("GIT_") and not _stays(name))
    return {
        **dict.fromkeys(dropped),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": ALLOWED_PROTOCOLS,
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",  # who only looks writes nothing, not even a fresher index
        "GIT_NO_REPLACE_OBJECTS": "1",  # a commit is what its name says
        "LC_ALL": "C",
    }


def _stays(name: str) -> bool:
    # GIT_TRACE_REDACT=0 would put passwords into what git says, and so into our messages.
    return name in _KEPT or (name.startswith(_KEPT_PREFIXES) and name != "GIT_TRACE_REDACT")
