"""Changing a spec that a person wrote: only what is new is put in, comments and order stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.models import spec
from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HEADER = "# Model files of this home: docs/models.md. Written by gov models, and yours to edit.\nmodels:\n"
_KEY_ORDER = ("name", "source", "sources", "target_path", "checksum", "size", "kind", "metadata")


def record(path: Path, found: Mapping[int, tuple[str, int]]) -> None:
    """Write the checksum and size of the entries at these positions, which have no checksum yet."""
    text = spec.read_text(path)
    document = spec.parse_document(path, text)
    for position, (checksum, size) in found.items():
        document["models"][position].update({"checksum": f"sha256:{checksum}", "size": size})
    _write(path, text, _with_values(path, text, found), document)


def append(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Put entries behind those that are there; the file is made when there is none."""
    text = spec.read_text(path) if path.exists() else HEADER
    document = spec.parse_document(path, text)
    if document is None or document == {}:
        document, text = {"models": None}, text + "models:\n"
    elif not isinstance(document, dict):
        raise _odd(path)
    has_entries = bool(document.get("models"))
    document["models"] = [*(document.get("models") or ()), *entries]
    _write(path, text, _with_entries(text, entries, has_entries=has_entries), document)


def _write(path: Path, before: str, edited: str | None, document: dict[str, Any]) -> None:
    """`edited` if it means exactly `document`, else the document anew: never another meaning than wanted."""
    if before.lstrip().startswith("{"):
        edited = msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
    elif edited is None or _meaning(path, edited) != document:
        edited = _dump(document)
    fs.remove_leftovers(path.resolve().parent)
    with fs.explained(path):
        fs.write_atomic(path.resolve(), edited.encode())  # a link to a file that is kept elsewhere stays one


def _meaning(path: Path, text: str) -> object:
    try:
        found: object = spec.parse_document(path, text)
    except GovError:
        return None
    return found


def _with_values(path: Path, text: str, found: Mapping[int, tuple[str, int]]) -> str | None:
    """The text with two lines more in each of the mappings, at the end of them; None when it is too odd for that."""
    import yaml

    root = yaml.compose(text, yaml.SafeLoader)
    nodes = _entry_nodes(root)
    if nodes is None:
        raise _odd(path)
    places = []
    for position, (checksum, size) in found.items():
        node = nodes[position]
        if not isinstance(node, yaml.MappingNode) or not node.value:
            return None
        values = {"checksum": f'"sha256:{checksum}"', "size": str(size)}
        present = {key.value: value for key, value in node.value}
        for name in [name for name in values if name in present]:
            old = present[name]
            places.append((old.start_mark.index, old.end_mark.index, values.pop(name)))
        places.append(_addition(text, node, values))
    for start, end, words in sorted(places, reverse=True):
        text = text[:start] + words + text[end:]
    return text


def _entry_nodes(root: Any) -> list[Any] | None:  # noqa: ANN401 (nodes of PyYAML)
    import yaml

    if not isinstance(root, yaml.MappingNode):
        return None
    found = next((value for key, value in root.value if key.value == "models"), None)
    return found.value if isinstance(found, yaml.SequenceNode) else None


def _addition(text: str, node: Any, values: Mapping[str, str]) -> tuple[int, int, str]:  # noqa: ANN401
    if node.flow_style:
        at = node.end_mark.index - 1
        return at, at, "".join(f", {name}: {value}" for name, value in values.items())
    last = node.value[-1][1]
    at = (
        text.rfind("\n", 0, last.end_mark.index) + 1
        if last.end_mark.column == 0
        else text.find("\n", last.end_mark.index) + 1
    )
    indent = " " * node.start_mark.column
    lines = "".join(f"{indent}{name}: {value}\n" for name, value in values.items())
    if at <= 0:
        return len(text), len(text), "\n" + lines
    return at, at, lines


def _with_entries(text: str, entries: Sequence[Mapping[str, Any]], *, has_entries: bool) -> str | None:
    """Entries at the end of the text, indented like those before; None when `models` is not the last key there."""
    import yaml

    root = yaml.compose(text, yaml.SafeLoader)
    indent = 2
    if has_entries:
        nodes = _entry_nodes(root)
        if not nodes or "\n" not in text:
            return None
        line = text[text.rfind("\n", 0, nodes[0].start_mark.index) + 1 : nodes[0].start_mark.index]
        indent = len(line) - len(line.lstrip(" "))
    dumped = _dump([_ordered(entry) for entry in entries])
    added = "".join(f"{' ' * indent}{line}\n" for line in dumped.splitlines())
    return text.rstrip("\n") + "\n" + added


def _ordered(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in _KEY_ORDER if key in entry}


def _dump(document: object) -> str:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def _odd(path: Path) -> GovError:
    return GovError(Code.BAD_CONFIG, f"{path} has no list `models` that could be added to", "docs/models.md shows one")
