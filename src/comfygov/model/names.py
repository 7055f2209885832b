"""Names that people and git give us, judged before anything is done with them."""

from __future__ import annotations

import re

# The project that uv locks; its explanations call groups `comfy-env:GROUP`.
PROJECT_NAME = "comfy-env"
NODE_ID_RULE = "letters, digits, '.', '_' and '-', starting and ending with a letter or digit, at most 100"
_NODE_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
# `.disabled` makes ComfyUI skip a folder; the others are names that mean something to the file system.
_RESERVED_SUFFIXES = (".disabled", ".git", ".lock", ".py")


def is_node_id(text: str) -> bool:
    """True when `text` can be a folder below custom_nodes, a group name and a file name on every system."""
    if not _NODE_ID.fullmatch(text) or ".." in text:
        return False
    return not text.lower().endswith(_RESERVED_SUFFIXES)


def is_file_id(text: str) -> bool:
    """True for the name of a single file that is a pack of its own."""
    return text.endswith(".py") and is_node_id(text.removesuffix(".py"))


def canonical(name: str) -> str:
    """The form in which package and group names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def group_of(node_id: str) -> str:
    """The dependency group of a node pack. uv normalises group names, so two ids may meet in one."""
    return f"node-{canonical(node_id)}"


def id_from_source(source: str) -> str:
    """`https://host/owner/ComfyUI-GGUF.git` -> `ComfyUI-GGUF`."""
    bare = re.split(r"[?#]", source)[0] if "://" in source else source
    last = re.split(r"[/\\:]", bare.rstrip("/\\"))[-1]
    return last.removesuffix(".git")
