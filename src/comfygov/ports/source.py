"""Where a repository comes from: judged before git sees it, and free of credentials when it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from comfygov.errors import Code, GovError
from comfygov.ports.git_files import COMMIT

CONTENT = "content:"
"""Before a tree hash: a pack that comes from nowhere. The object cache has its one commit."""
REGISTRY = "registry:"
"""Before the id of a pack in the node registry."""
ALLOWED_PROTOCOLS = "https:http:ssh:file"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCP_FORM = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^:].*")
_MAX_LENGTH = 2000


@dataclass(frozen=True)
class Source:
    """`fetch_url` may hold credentials; `public` never does."""

    fetch_url: str
    public: str
    local: bool


def parse_source(text: str, base: Path) -> Source:
    """Judge a git URL, or a local path that starts at `base`.

    Raises `bad_source` for anything that git could take for an option or a helper, and for what is not
    there.
    """
    if not text.strip():
        raise _bad_source(text, "it is empty")
    if text.startswith("-") or len(text) > _MAX_LENGTH or any(ord(c) < 32 for c in text):
        raise _bad_source(text, "it could be taken for an option")
    try:
        if _SCHEME.match(text):
            return _parse_url(text)
        if "::" in text:
            raise _bad_source(text, "it names a git helper")
        if _SCP_FORM.fullmatch(text) and not (base / text).exists():
            return Source(text, text, local=False)
        path = (base / Path(text).expanduser()).resolve()
    except (ValueError, RuntimeError, OSError) as error:
        raise _bad_source(text, str(error)) from error
    if not path.is_dir():
        shown = without_credentials(text)
        raise GovError(Code.BAD_SOURCE, f"`{shown}` is neither a git URL nor a directory", "check the spelling")
    return Source(str(path), str(path), local=True)


def recorded_source(public: str) -> Source:
    """The source that a record names. It was judged when it was recorded, and need not be there any more:
    the object cache has what is needed."""
    return Source(public, public, local=public.startswith(("/", "file://")))


def _parse_url(text: str) -> Source:
    parts = urlsplit(text)
    host, port = parts.hostname or "", parts.port
    if parts.scheme not in ALLOWED_PROTOCOLS.split(":"):
        raise _bad_source(text, f"the protocol `{parts.scheme}` is not allowed")
    if "::" in text.replace(f"[{host}]", "", 1):
        raise _bad_source(text, "it names a git helper")
    if host.startswith("-") or parts.path.startswith("-"):
        raise _bad_source(text, "it could be taken for an option")
    shown_host = f"[{host}]" if ":" in host else host
    keep_user = parts.scheme == "ssh" and parts.username and not parts.password
    netloc = (f"{parts.username}@" if keep_user else "") + shown_host + (f":{port}" if port else "")
    public = urlunsplit((parts.scheme, netloc, parts.path, "", ""))
    return Source(text, public, local=parts.scheme == "file")


def _bad_source(text: str, reason: str) -> GovError:
    shown = without_credentials(text[:200])
    return GovError(
        Code.BAD_SOURCE, f"`{shown}` is not taken as a git source: {reason}", "give an https or ssh URL, or a directory"
    )


def without_credentials(text: str) -> str:
    """`text` with the user part and the query of every URL in it removed, mistyped URLs included."""
    text = re.sub(r"(?<=:/)(/?)[^/\s]*@", r"\1", text)
    text = re.sub(r"(?<![^\s'\"`])[^\s/'\"`@:]+:[^\s/'\"`]*@", "", text)
    return re.sub(r"(://[^\s?#'\"`]*)[?#][^\s'\"`]*", r"\1", text)


def refspec_of(ref: str | None) -> str:
    """The refspec that fetches `ref` alone."""
    if ref and COMMIT.fullmatch(ref):
        return f"{ref}:refs/comfygov/keep/{ref}"
    return f"+refs/heads/{ref}:refs/source/heads/{ref}" if ref else ""
