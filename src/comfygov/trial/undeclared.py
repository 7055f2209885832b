"""What a pack imports and does not declare: it works by luck, because somebody else needs the same package."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from comfygov.model.names import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from comfygov.trial.reading import Import, Reading

_SHOWN = 3


def undeclared(
    reading: Reading,
    owners: Mapping[str, Collection[str]],
    declared: Collection[str],
    needed_by: Mapping[str, Collection[str]],
    known: Collection[str],
) -> Iterator[str]:
    """A line for each package that is imported and not declared, and for each import that nothing provides.

    `owners` says which packages a module comes from, `declared` what the pack and ComfyUI declare, `needed_by` who
    brings a package along, `known` modules that are ComfyUI's own.
    """
    declared = {canonical(name) for name in declared}
    mine = reading.names | sys.stdlib_module_names | {*known, "custom_nodes", "__future__", "pkg_resources"}
    by_module: dict[str, list[Import]] = {}
    for entry in reading.imports:
        if entry.top not in mine and not entry.top.startswith("_"):
            by_module.setdefault(entry.top, []).append(entry)
    for module, imports in sorted(by_module.items()):
        found = owners.get(module, ())
        if not found:
            needed = [entry for entry in imports if not entry.optional]
            if needed:
                yield f"{_where(needed)}: imports {module}, which nothing that is installed provides"
        elif not declared.intersection(found):
            name = min(found)
            why = ", ".join(sorted(needed_by.get(name, ()))[:_SHOWN])
            how = f"which is here because {why} needs it" if why else "which nothing that is declared brings along"
            yield f"{_where(imports)}: imports {module} ({name}), {how}"


def _where(imports: list[Import]) -> str:
    first = min(imports, key=lambda entry: (entry.optional, entry.file, entry.line))
    return f"{first.file}:{first.line}"
