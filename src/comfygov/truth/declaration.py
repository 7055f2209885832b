"""`pyproject.toml` of a home: a pure rendering of a Declaration, and back."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.builds import DEFAULT_BUILD
from comfygov.model.names import PROJECT_NAME, canonical
from comfygov.model.state import ComfyUIPin, Declaration, Resolution
from comfygov.ports import find_links, toml

HEADER = "# Written by comfygov from the governed state; edits here are drift. Settings: config.toml\n"
PYTORCH_INDEX_VARIABLE = "COMFYGOV_PYTORCH_INDEX"
# What `gov resolve --pin` adds.
PINS_GROUP = "overrides"
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
        "dependency-groups": _groups(declaration),
        "tool": {"uv": _uv_table(declaration, pytorch_index), "comfygov": _own_table(declaration)},
    }
    if declaration.torch_backends:
        asked = _asked_of_pytorch(declaration)
        extras = {name: [] if name == DEFAULT_BUILD else asked for name in declaration.torch_backends}
        document["project"]["optional-dependencies"] = extras
    return HEADER + tomli_w.dumps(document)


def _asked_of_pytorch(declaration: Declaration) -> list[str]:
    """Of PyTorch's packages those that somebody asks for: an extra must not bring others in."""
    asked = {_name(line) for lines in declaration.groups.values() for line in lines}
    return [name for name in PYTORCH_PACKAGES if name in asked]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return canonical(match[0]) if match else ""


def _groups(declaration: Declaration) -> dict[str, list[str]]:
    groups = {name: list(declaration.groups[name]) for name in declaration.groups}
    pins = [entry.requirement for entry in declaration.resolutions if not entry.forced]
    return dict(sorted({**groups, **({PINS_GROUP: pins} if pins else {})}.items()))


def _uv_table(declaration: Declaration, pytorch_index: str) -> dict[str, Any]:
    table: dict[str, Any] = {
        "package": False,
        "workspace": {},  # a home below somebody's uv workspace is still its own root
        "default-groups": "all",
        "no-build": not declaration.source_builds,
        "environments": list(declaration.environments),
        "constraint-dependencies": list(declaration.constraints),
        "override-dependencies": [entry.requirement for entry in declaration.resolutions if entry.forced],
        "exclude-dependencies": list(declaration.exclude),
        "find-links": [find_links.for_uv(entry) for entry in declaration.find_links],
    }
    if declaration.exclude_newer:
        table["exclude-newer"] = declaration.exclude_newer
        if declaration.torch_backend or declaration.torch_backends:  # PyTorch's index does not say when a file came
            table["exclude-newer-package"] = dict.fromkeys(PYTORCH_PACKAGES, False)
    if declaration.index_url == "none":
        table["no-index"] = True
    indexes: list[dict[str, Any]] = []
    if declaration.index_url not in ("", "none"):
        indexes.append({"name": "main", "url": declaration.index_url, "default": True})
    if declaration.torch_backends:
        table["conflicts"] = [[{"extra": name} for name in declaration.torch_backends]]
        pytorch = [name for name in declaration.torch_backends if name != DEFAULT_BUILD]
        indexes += [_pytorch_index(f"pytorch-{name}", f"{pytorch_index}/{name}") for name in pytorch]
        sources = [_source_of_build(name) for name in pytorch]
        table["sources"] = dict.fromkeys(_asked_of_pytorch(declaration), sources)
    elif declaration.torch_backend:
        indexes.append(_pytorch_index("pytorch", f"{pytorch_index}/{declaration.torch_backend}"))
        table["sources"] = {name: {"index": "pytorch"} for name in PYTORCH_PACKAGES}
    if indexes:
        table["index"] = indexes
    return {key: value for key, value in table.items() if value != []}


def _pytorch_index(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "url": url, "explicit": True}


def _source_of_build(name: str) -> dict[str, str]:
    """PyTorch's index of a build. A Mac has no CUDA and no ROCm: there the extra gives the ordinary torch."""
    source = {"index": f"pytorch-{name}", "extra": name}
    return source if name == "cpu" else {**source, "marker": "sys_platform != 'darwin'"}


def _own_table(declaration: Declaration) -> dict[str, Any]:
    comfyui = {"repo": declaration.comfyui.repo, "commit": declaration.comfyui.commit}
    if declaration.comfyui.ref:
        comfyui["ref"] = declaration.comfyui.ref
    table: dict[str, Any] = {"schema_version": 1, "comfyui": comfyui}
    if declaration.torch_backends:
        table["torch_backends"] = list(declaration.torch_backends)
    if declaration.torch_backend:
        table["torch_backend"] = declaration.torch_backend
    if declaration.resolutions:
        table["resolutions"] = [msgspec.to_builtins(entry) for entry in declaration.resolutions]
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
            groups={name: tuple(lines) for name, lines in raw["dependency-groups"].items() if name != PINS_GROUP},
            constraints=tuple(uv.get("constraint-dependencies", ())),
            resolutions=msgspec.convert(own.get("resolutions", []), tuple[Resolution, ...]),
            exclude=tuple(uv.get("exclude-dependencies", ())),
            environments=tuple(uv.get("environments", ())),
            find_links=tuple(map(find_links.as_given, uv.get("find-links", ()))),
            index_url="none" if uv.get("no-index") else index,
            torch_backend=own.get("torch_backend", ""),
            torch_backends=tuple(own.get("torch_backends", ())),
            source_builds=not uv.get("no-build", True),
            exclude_newer=uv.get("exclude-newer", ""),
        )
    except (toml.TOMLDecodeError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise GovError(
            Code.HOME_DAMAGED,
            f"pyproject.toml of this state cannot be read: {error}",
            "gov rollback to another snapshot",
        ) from error
