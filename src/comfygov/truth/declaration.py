"""`pyproject.toml` of a home: a pure rendering of a Declaration, and back."""

from __future__ import annotations

from typing import Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import ComfyUIPin, Declaration
from comfygov.ports import toml

HEADER = "# Written by comfygov from the governed state; edits here are drift. Settings: config.toml\n"
PROJECT_NAME = "comfy-env"
PYTORCH_INDEX_VARIABLE = "COMFYGOV_PYTORCH_INDEX"
PYTORCH_PACKAGES = ("torch", "torchvision", "torchaudio")


def render(declaration: Declaration, pytorch_index: str) -> str:
    """The text of pyproject.toml. Same declaration, same bytes."""
    import tomli_w

    document: dict[str, Any] = {
        "project": {
            "name": PROJECT_NAME,
            "version": "0",
            "requires-python": declaration.requires_python,
            "dependencies": [],
        },
        "dependency-groups": {name: list(declaration.groups[name]) for name in sorted(declaration.groups)},
        "tool": {"uv": _uv_table(declaration, pytorch_index), "comfygov": _own_table(declaration)},
    }
    return HEADER + tomli_w.dumps(document)


def _uv_table(declaration: Declaration, pytorch_index: str) -> dict[str, Any]:
    table: dict[str, Any] = {
        "package": False,
        "workspace": {},  # a home below somebody's uv workspace is still its own root
        "default-groups": "all",
        "no-build": not declaration.source_builds,
        "environments": list(declaration.environments),
        "constraint-dependencies": list(declaration.constraints),
        "override-dependencies": list(declaration.overrides),
        "exclude-dependencies": list(declaration.exclude),
        "find-links": list(declaration.find_links),
    }
    if declaration.index_url == "none":
        table["no-index"] = True
    indexes: list[dict[str, Any]] = []
    if declaration.index_url not in ("", "none"):
        indexes.append({"name": "main", "url": declaration.index_url, "default": True})
    if declaration.torch_backend:
        url = f"{pytorch_index}/{declaration.torch_backend}"
        indexes.append({"name": "pytorch", "url": url, "explicit": True})
        table["sources"] = {name: {"index": "pytorch"} for name in PYTORCH_PACKAGES}
    if indexes:
        table["index"] = indexes
    return {key: value for key, value in table.items() if value != []}


def _own_table(declaration: Declaration) -> dict[str, Any]:
    comfyui = {"repo": declaration.comfyui.repo, "commit": declaration.comfyui.commit}
    if declaration.comfyui.ref:
        comfyui["ref"] = declaration.comfyui.ref
    table: dict[str, Any] = {"schema_version": 1, "comfyui": comfyui}
    if declaration.torch_backend:
        table["torch_backend"] = declaration.torch_backend
    return table


def parse(text: str) -> Declaration:
    """The Declaration that `render` was given; raises `home_damaged` when the text is none of ours."""
    try:
        raw = toml.loads(text)
        uv, own = raw["tool"]["uv"], raw["tool"]["comfygov"]
        index = next((entry["url"] for entry in uv.get("index", []) if entry.get("default")), "")
        return Declaration(
            comfyui=msgspec.convert({"ref": None, **own["comfyui"]}, ComfyUIPin),
            requires_python=raw["project"]["requires-python"],
            groups={name: tuple(lines) for name, lines in raw["dependency-groups"].items()},
            constraints=tuple(uv.get("constraint-dependencies", ())),
            overrides=tuple(uv.get("override-dependencies", ())),
            exclude=tuple(uv.get("exclude-dependencies", ())),
            environments=tuple(uv.get("environments", ())),
            find_links=tuple(uv.get("find-links", ())),
            index_url="none" if uv.get("no-index") else index,
            torch_backend=own.get("torch_backend", ""),
            source_builds=not uv.get("no-build", True),
        )
    except (toml.TOMLDecodeError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise GovError(
            Code.HOME_DAMAGED,
            f"pyproject.toml of this state cannot be read: {error}",
            "gov rollback to another snapshot",
        ) from error
