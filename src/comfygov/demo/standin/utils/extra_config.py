"""Reads extra_model_paths.yaml: sections with `key: value` and `key: |` blocks, without a YAML library."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import folder_paths

log = logging.getLogger("comfyui")
Section = dict[str, str]


def _scalar(text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        return str(json.loads(text[: text.rindex('"') + 1]))
    if text.startswith("'"):
        return text[1 : text.rindex("'")].replace("''", "'")
    return "" if text.startswith("#") else text.split(" #", 1)[0].strip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _key(line: str) -> tuple[str, str]:
    name, colon, value = line.strip().partition(":")
    if not colon or (value and not value.startswith(" ")):
        raise ValueError(f"extra model paths: cannot read the line {line!r}")
    return _scalar(name), value.strip()


def _block(lines: list[str], depth: int) -> str:
    taken = []
    while lines and (not lines[0].strip() or _indent(lines[0]) > depth):
        taken.append(lines.pop(0).strip())
    return "\n".join(taken)


def parse(text: str) -> dict[str, Section]:
    """The sections of the file."""
    lines = [x.rstrip() for x in text.splitlines() if not x.lstrip().startswith(("#", "---"))]
    sections: dict[str, Section] = {}
    current: Section | None = None
    while lines:
        line = lines.pop(0)
        if not line.strip():
            continue
        name, value = _key(line)
        if _indent(line) == 0:
            current = sections.setdefault(name, {})
        elif current is None:
            raise ValueError(f"extra model paths: {line!r} stands outside a section")
        else:
            current[name] = _block(lines, _indent(line)) if value[:1] == "|" else _scalar(value)
    return sections


def _base(section: Section, home: Path) -> Path:
    named = section.pop("base_path", None)
    return home / Path(os.path.expandvars(named)).expanduser() if named else home


def _add(section: Section, home: Path) -> None:
    base = _base(section, home)
    is_default = section.pop("is_default", "").lower() in {"true", "yes", "on"}
    for name, value in section.items():
        for entry in filter(None, value.split("\n")):
            path = os.path.normpath(base / entry)
            log.info("Adding extra search path %s %s", name, path)
            folder_paths.add_model_folder_path(name, path, is_default)


def load_extra_path_config(yaml_path: str) -> None:
    """Add every folder that the file names."""
    path = Path(yaml_path)
    for section in parse(path.read_text(encoding="utf-8")).values():
        _add(section, path.absolute().parent)
