"""`gov tx run --from FILE`: the record of another tool as the plan of a transaction."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ops import nodes, planning, records
from comfygov.ops.planning import TxRequest
from comfygov.ops.records import RecordFinding

if TYPE_CHECKING:
    from comfygov.model.state import Plugin, Registry
    from comfygov.ops.context import Context
    from comfygov.ops.records import Record, RecordedPack


class Imported(msgspec.Struct, frozen=True):
    """What is to be tried, and what of the record is not in it. `added` are the packs that were not here before."""

    request: TxRequest
    added: tuple[str, ...]
    findings: tuple[RecordFinding, ...]


def plan(context: Context, file: str, request: TxRequest) -> Imported:
    """`request` with what the record says; packs that are not here are registered first (they are not loaded).

    Raises `wrong_state` when production is what the record says already.
    """
    record = records.read(Path(file).expanduser().absolute())
    findings = list(record.findings)
    added: list[str] = []
    wanted = dict(request.nodes)
    for pack in record.packs:
        try:
            known = _registered(context, pack, added)
        except GovError as error:
            findings.append(RecordFinding("node", pack.id, f"is not taken: {error.message}", error.hint))
            continue
        if _is_to_be_tried(pack, known, findings):
            wanted.setdefault(known.id, pack.ref)
    comfyui = request.comfyui or _comfyui(context, record, findings)
    findings += _not_named(context.head_state().registry, record)
    found = msgspec.structs.replace(request, nodes=tuple(sorted(wanted.items())), comfyui=comfyui)
    if not (found.nodes or found.comfyui or found.dependencies or found.dropped or found.upgrades):
        lines = tuple(f"{one.kind} {one.subject} {one.problem}" for one in findings)
        problem = f"there is nothing to try: production is what {file} says, as far as it is taken"
        raise GovError(Code.WRONG_STATE, problem, "gov node list", lines)
    return Imported(found, tuple(added), tuple(findings))


def _registered(context: Context, pack: RecordedPack, added: list[str]) -> Plugin:
    """The pack of the home that is meant; it is registered when there is none."""
    known = _find(context.head_state().registry, pack)
    if known is not None:
        return known
    source = pack.source or f"registry:{pack.registry_id}"
    made = nodes.add(context, nodes.AddRequest(source, pack.ref, pack.id)).plugin
    added.append(made.id)
    return made


def _find(registry: Registry, pack: RecordedPack) -> Plugin | None:
    """By its repository, however that is written, else by its id."""
    wanted = _plain(pack.source) if pack.source else f"registry:{pack.registry_id.lower()}"
    same = (plugin for plugin in registry.plugins if _plain(plugin.source) == wanted)
    names = {pack.id.lower(), pack.registry_id.lower()}
    named = (plugin for plugin in registry.plugins if plugin.id.lower() in names)
    return next(same, None) or next(named, None)


def _plain(source: str) -> str:
    """`git@github.com:o/p.git` and `https://github.com/o/p` are one repository."""
    text = re.sub(r"^[\w.-]+@([\w.-]+):", r"\1/", source.strip())
    return re.sub(r"^[a-z+]+://(?:[^/@]*@)?", "", text).rstrip("/").removesuffix(".git").lower()


def _is_to_be_tried(pack: RecordedPack, known: Plugin, findings: list[RecordFinding]) -> bool:
    if not pack.enabled:
        if known.enabled:
            problem = "is switched off in the record, and production loads it"
            findings.append(RecordFinding("node", known.id, problem, f"gov node disable {known.id}"))
        return False
    differs = pack.source and known.source.startswith(("registry:", "content:"))
    if differs or (pack.registry_id and not known.source.startswith("registry:")):
        there = f"comes from {known.source} here, not from {pack.source or f'registry:{pack.registry_id}'}"
        if known.enabled:
            findings.append(RecordFinding("node", known.id, f"{there}: it stays as it is"))
            return False
        findings.append(RecordFinding("node", known.id, f"{there}: it is tried as it is here"))
    return not (known.enabled and pack.ref in (known.commit, known.ref))


def _comfyui(context: Context, record: Record, findings: list[RecordFinding]) -> str | None:
    """The ref to try; None when production is there already, or its repository does not have it."""
    pin = context.head_state().declared.comfyui
    if not record.comfyui or record.comfyui in (pin.commit, pin.ref):
        return None
    try:
        commit = planning.newest(context, pin.repo, record.comfyui)
    except GovError as error:
        problem = f"is at {record.comfyui} in the record and stays where it is: {error.message}"
        findings.append(RecordFinding("comfyui", "ComfyUI", problem))
        return None
    return None if commit == pin.commit else record.comfyui


def _not_named(registry: Registry, record: Record) -> list[RecordFinding]:
    known = {plugin.id for pack in record.packs if (plugin := _find(registry, pack))}
    return [
        RecordFinding("node", plugin.id, "is not in the record, and stays", f"gov node disable {plugin.id}")
        for plugin in registry.enabled()
        if plugin.id not in known
    ]
