"""What other tools wrote down of an install: snapshots of ComfyUI-Manager and of Comfy Desktop, comfy-build files.

Shapes: ComfyUI-Manager `manager_core.py` (`save_snapshot_with_postfix`), Comfy Desktop 2 snapshots (versions 1 and 2),
comfy-cli `comfy-build/1`. None of them holds hashes, a Python with its platform, or submodules.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.names import id_from_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class RecordFinding(msgspec.Struct, frozen=True):
    """Something that a record does not say, or that is not taken from it, and what helps."""

    kind: str
    subject: str
    problem: str
    hint: str = ""


class RecordedPack(msgspec.Struct, frozen=True):
    """A pack by its repository (`source`) at a commit, or by its id in the node registry at a version. Without `ref`
    the newest is meant."""

    id: str
    source: str = ""
    registry_id: str = ""
    ref: str | None = None
    enabled: bool = True


class Record(msgspec.Struct, frozen=True):
    """`comfyui` is a commit, tag or branch; empty when the record does not know it."""

    tool: str
    comfyui: str
    packs: tuple[RecordedPack, ...]
    findings: tuple[RecordFinding, ...]


class _Disabled(msgspec.Struct, frozen=True):
    hash: str | None = None
    disabled: bool = False


class _File(msgspec.Struct, frozen=True):
    filename: str = ""
    disabled: bool = False


class _Manager(msgspec.Struct, frozen=True):
    comfyui: str | None = None
    git_custom_nodes: dict[str, _Disabled] = {}
    cnr_custom_nodes: dict[str, str] = {}
    file_custom_nodes: tuple[_File, ...] = ()
    pips: dict[str, str] = {}


class _DesktopComfyUI(msgspec.Struct, frozen=True):
    ref: str | None = None
    commit: str | None = None


class _DesktopNode(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    id: str = ""
    dir_name: str = ""
    version: str | None = None
    url: str | None = None
    commit: str | None = None
    enabled: bool = True


class _Desktop(msgspec.Struct, frozen=True, rename="camel"):
    created_at: str = ""
    comfyui: _DesktopComfyUI = _DesktopComfyUI()
    custom_nodes: tuple[_DesktopNode, ...] = ()
    pip_packages: dict[str, str] = {}
    python_version: str | None = None


class _BuildNode(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    source: str = ""
    repository: str = ""
    git_ref: str | None = None
    id: str = ""
    registry_version: str | None = None


class _Definition(msgspec.Struct, frozen=True, rename="camel"):
    base_comfy_version: str = ""
    custom_nodes: tuple[_BuildNode, ...] = ()
    models: tuple[dict[str, Any], ...] = ()
    pip_dependencies: str = ""


class _Build(msgspec.Struct, frozen=True):
    definition: _Definition


def read(path: Path) -> Record:
    """Raises `not_found`, and `bad_config` for a file that is none of the known records."""
    from comfygov.models import spec

    document = spec.parse_document(path, spec.read_text(path))
    for applies, convert in _KINDS:
        if isinstance(document, dict) and applies(document):
            try:
                return convert(document)
            except (msgspec.ValidationError, RecursionError) as error:
                problem = f"{path} is not as its tool writes it: {str(error)[:300]}"
                raise GovError(Code.BAD_CONFIG, problem, "export it again") from error
    raise GovError(
        Code.BAD_CONFIG,
        f"{path} is no record that is known",
        "known are snapshots of ComfyUI-Manager (JSON, YAML) and of Comfy Desktop, and comfy-build.yaml",
    )


def _is_manager(document: dict[str, Any]) -> bool:
    names = {"git_custom_nodes", "cnr_custom_nodes", "file_custom_nodes"}
    inner = document.get("custom_nodes")
    return bool(names & document.keys()) or (isinstance(inner, dict) and bool(names & inner.keys()))


def _manager(document: dict[str, Any]) -> Record:
    """The YAML form has everything below `custom_nodes`."""
    inner = document.get("custom_nodes")
    found = msgspec.convert({**document, **(inner if isinstance(inner, dict) else {})}, _Manager)
    say: list[RecordFinding] = []
    packs = [
        RecordedPack(id_from_source(url), url, ref=_commit(say, url, node.hash), enabled=not node.disabled)
        for url, node in found.git_custom_nodes.items()
    ]
    packs += [
        RecordedPack(name, registry_id=name, ref=_version(say, name, version))
        for name, version in found.cnr_custom_nodes.items()
    ]
    named = "is a single file, which the record names and does not hold"
    say += [RecordFinding("file", file.filename, named) for file in found.file_custom_nodes]
    _say_packages(say, (f"{name}{f' ({where})' if where else ''}" for name, where in found.pips.items()))
    say.append(
        RecordFinding("record", "disabled packs", "of the registry, and packs without git, are not in such a record")
    )
    return Record("ComfyUI-Manager", _comfyui(say, found.comfyui), tuple(packs), tuple(say))


def _is_desktop(document: dict[str, Any]) -> bool:
    whole = document.get("type") == "comfyui-desktop-2-snapshot"
    return whole or (isinstance(document.get("customNodes"), list) and isinstance(document.get("comfyui"), dict))


def _desktop(document: dict[str, Any]) -> Record:
    several = document.get("snapshots", [document])
    snapshots = msgspec.convert(several, tuple[_Desktop, ...])
    if not snapshots:
        raise msgspec.ValidationError("it holds no snapshot")
    found = max(snapshots, key=lambda one: one.created_at)
    say: list[RecordFinding] = []
    if len(snapshots) > 1:
        said = f"are in it; the newest, of {found.created_at}, is taken"
        say.append(RecordFinding("record", f"{len(snapshots)} snapshots", said))
    packs = []
    for node in found.custom_nodes:
        name = node.dir_name or node.id
        if node.type == "git" and node.url:
            ref = _commit(say, name, node.commit)
            packs.append(RecordedPack(name, node.url, ref=ref, enabled=node.enabled))
        elif node.type == "cnr" and node.id:
            ref = _version(say, name, node.version)
            packs.append(RecordedPack(name, registry_id=node.id, ref=ref, enabled=node.enabled))
        else:
            say.append(RecordFinding("file", name, f"is of the kind `{node.type}`, which the record does not hold"))
    _say_packages(say, (f"{name}=={version}" for name, version in found.pip_packages.items()))
    if found.python_version:
        say.append(RecordFinding("python", found.python_version, "was its Python; the home keeps its own"))
    return Record("Comfy Desktop", _comfyui(say, found.comfyui.commit or found.comfyui.ref), tuple(packs), tuple(say))


def _is_build(document: dict[str, Any]) -> bool:
    return str(document.get("schema", "")).startswith("comfy-build/")


def _build(document: dict[str, Any]) -> Record:
    found = msgspec.convert(document, _Build).definition
    say: list[RecordFinding] = []
    packs = []
    for node in found.custom_nodes:
        if node.source == "git" and node.repository:
            packs.append(RecordedPack(node.name or id_from_source(node.repository), node.repository, ref=node.git_ref))
        elif node.source == "registry" and node.id:
            packs.append(RecordedPack(node.name or node.id, registry_id=node.id, ref=node.registry_version))
        else:
            say.append(RecordFinding("node", node.name, "is a local folder of another machine", "gov node add DIR"))
    for model in found.models:
        name = str(model.get("filename") or model.get("type") or "a model")
        hint = "gov models add URL --to KIND --checksum SHA256"
        say.append(RecordFinding("model", name[:200], "is not part of a change", hint))
    _say_packages(say, (line for line in found.pip_dependencies.splitlines() if line.strip()))
    return Record("comfy-build", _comfyui(say, found.base_comfy_version), tuple(packs), tuple(say))


_KINDS: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[[dict[str, Any]], Record]], ...] = (
    (_is_build, _build),
    (_is_manager, _manager),
    (_is_desktop, _desktop),
)


def _commit(say: list[RecordFinding], subject: str, text: str | None) -> str | None:
    """A commit without the newline that a detached HEAD leaves behind it; None for `unknown` (packed refs)."""
    found = (text or "").strip().lower()
    if _COMMIT.fullmatch(found):
        return found
    problem = f"has the commit `{found[:60]}` in the record, which is none: the newest is taken"
    say.append(RecordFinding("node", subject, problem))
    return None


def _version(say: list[RecordFinding], subject: str, text: str | None) -> str | None:
    found = (text or "").strip()
    if found and found not in ("unknown", "nightly", "latest"):
        return found
    problem = f"has the version `{found or 'none'}` in the record: the newest of the registry is taken"
    say.append(RecordFinding("node", subject, problem))
    return None


def _comfyui(say: list[RecordFinding], text: str | None) -> str:
    found = (text or "").strip()
    if found and found != "unknown":
        return found
    say.append(RecordFinding("comfyui", "ComfyUI", "has no commit in the record: it stays where it is"))
    return ""


def _say_packages(say: list[RecordFinding], lines: Iterator[str]) -> None:
    """Versions of another machine forced here are how installs break; what packs ask for decides."""
    found = [line.strip() for line in lines]
    if not found:
        return
    shown = ", ".join(found[:5]) + (" …" if len(found) > 5 else "")
    problem = f"are listed ({shown[:300]}) and are not forced: what packs ask for decides"
    say.append(RecordFinding("packages", f"{len(found)} packages", problem, "--dep 'NAME==VERSION' asks for one"))
