"""The bill of materials of an image, in CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json/). Same lock, same
bytes: no time, and a serial number that is made of the lock's digest. What the base image holds is not in it."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from comfygov.model.image import ImageRecord
    from comfygov.model.version import LockedComfyUI, LockedModel, LockedNode, VersionLock

_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_SPACE = uuid.UUID("5a0d1f52-7c0c-5b7e-9a4e-6f4a4b1c2d3e")  # of our serial numbers; any constant would do


def render(lock: VersionLock, record: ImageRecord, document: dict[str, Any], requirements: str) -> bytes:
    """`document` is the pylock of the image, `requirements` those of the handler's environment."""
    components = [
        *_packages(document),
        *_handler(requirements, record),
        *_codes(lock),
        *(_model(model) for model in lock.models),
    ]
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": _metadata(record),
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
    }
    serial = uuid.uuid5(_SPACE, msgspec.json.encode(content, order="sorted").decode())
    return (
        msgspec.json.format(
            msgspec.json.encode({**content, "serialNumber": f"urn:uuid:{serial}"}, order="sorted"), indent=2
        )
        + b"\n"
    )


def _metadata(record: ImageRecord) -> dict[str, Any]:
    tool = {"type": "application", "name": "comfygov", "version": record.comfygov}
    facts = {"digest": record.digest, "base": record.base, "uv": record.uv, "python": record.python}
    return {
        "tools": {"components": [tool]},
        "component": {
            "type": "container",
            "bom-ref": "image",
            "name": record.version,
            "version": record.digest,
            "properties": _properties(facts),
        },
    }


def _properties(facts: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": f"comfygov:{name}", "value": value} for name, value in sorted(facts.items()) if value]


def _packages(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for package in document.get("packages", []):
        name, version = package["name"], str(package.get("version", ""))
        entry = found.setdefault(_purl(name, version), _library(name, version, "environment"))
        files = [*package.get("wheels", []), *(package[kind] for kind in ("sdist", "archive") if kind in package)]
        entry.setdefault("externalReferences", []).extend(_file(file) for file in files)
    yield from found.values()


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"


def _library(name: str, version: str, where: str) -> dict[str, Any]:
    purl = _purl(name, version)
    properties = _properties({"where": where})
    entry = {"type": "library", "bom-ref": f"{where}/{purl}", "name": name, "purl": purl, "properties": properties}
    return {**entry, "version": version} if version else entry


def _file(file: dict[str, Any]) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": text} for kind, text in file.get("hashes", {}).items() if kind == "sha256"]
    return {"type": "distribution", "url": str(file.get("url") or file.get("path")), "hashes": hashes}


def _handler(requirements: str, record: ImageRecord) -> Iterator[dict[str, Any]]:
    yield _library("comfygov", record.comfygov, "handler")
    for block in re.split(r"\n(?=[A-Za-z0-9])", requirements):
        match = _REQUIREMENT.match(block.lstrip("\n"))
        if match:
            entry = _library(match[1], match[2], "handler")
            hashes = [{"alg": "SHA-256", "content": text} for text in _HASH.findall(block)]
            files = [{"type": "distribution", "url": entry["purl"], "hashes": [one]} for one in hashes]
            yield {**entry, "externalReferences": files}


def _codes(lock: VersionLock) -> Iterator[dict[str, Any]]:
    yield _code("ComfyUI", "application", lock.comfyui)
    yield from (_code(node.name, "library", node) for node in lock.custom_nodes if node.enabled)


def _code(name: str, kind: str, code: LockedComfyUI | LockedNode) -> dict[str, Any]:
    facts = {"tree": code.tree, "ref": code.ref or "", "edited-files": str(len(code.patch)) if code.patch else ""}
    entry: dict[str, Any] = {
        "type": kind,
        "bom-ref": f"code/{name}",
        "name": name,
        "version": code.commit,
        "pedigree": {"commits": [{"uid": code.commit}]},
        "properties": _properties(facts),
    }
    github = _GITHUB.fullmatch(code.repo)
    if github:
        entry["purl"] = f"pkg:github/{github[1].lower()}/{github[2].lower()}@{code.commit}"
    return {**entry, "externalReferences": [{"type": "vcs", "url": _iri(code.repo)}]}


def _iri(text: str) -> str:
    """An address as the schema wants it; `git@host:path` and the like are written as ssh."""
    match = re.fullmatch(r"([\w.-]+)@([\w.-]+):(.+)", text)
    return quote(f"ssh://{match[1]}@{match[2]}/{match[3]}" if match else text, safe=":/?#[]@!$&'()*+,;=%~")


def _model(model: LockedModel) -> dict[str, Any]:
    facts = {"target": model.target_path, "size": str(model.size) if model.size else ""}
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model/{model.target_path}",
        "name": model.name,
        "version": model.checksum,
        "hashes": [{"alg": "SHA-256", "content": model.checksum.removeprefix("sha256:")}],
        "externalReferences": [{"type": "distribution", "url": _iri(text)} for text in _public(model.sources)],
        "properties": _properties(facts),
    }


def _public(sources: Iterable[str]) -> list[str]:
    return sorted(text for text in sources if "://" in text)
