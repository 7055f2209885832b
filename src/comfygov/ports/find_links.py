"""Folders and pages of wheels (`find-links`) as uv reads them."""

from __future__ import annotations

_FILE_ADDRESS = "file://"


def for_uv(entry: str) -> str:
    """uv takes what follows a `#` in a path for the fragment of an address; in the address of a file it is quoted."""
    from urllib.parse import quote

    return _FILE_ADDRESS + quote(entry) if entry.startswith("/") and "#" in entry else entry


def as_given(entry: str) -> str:
    """The reverse of `for_uv`."""
    from urllib.parse import unquote

    return unquote(entry.removeprefix(_FILE_ADDRESS)) if entry.startswith(_FILE_ADDRESS) else entry
