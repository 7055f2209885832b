"""From what a person asked for, or a record remembers, to a Change: commits resolved, requirements read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.names import PROJECT_NAME, canonical
from comfygov.model.state import ComfyUIPin
from comfygov.ops import locking
from comfygov.ops.change import Change, ComfyUIOnTrial, PackOnTrial
from comfygov.ports import clones, node_registry
from comfygov.ports.git import recorded_source
from comfygov.resolve import requirements

if TYPE_CHECKING:
    from collections.abc import Collection

    from comfygov.model.state import Plugin
    from comfygov.model.tx import Override, Transaction
    from comfygov.ops.context import Context
    from comfygov.resolve.requirements import Declared
    from comfygov.truth.snapshots import State


class TxRequest(msgspec.Struct, frozen=True):
    """What to try, as one change. `nodes` are (id, ref): without a ref a pack that was promoted goes to the newest
    commit of the ref that it follows, another stays at the commit it was added at. `timeout_seconds` is for
    the boot."""

    nodes: tuple[tuple[str, str | None], ...] = ()
    comfyui: str | None = None
    dependencies: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    upgrades: tuple[str, ...] = ()
    timeout_seconds: float | None = None


def plan(context: Context, base: State, request: TxRequest) -> Change:
    """Raises `not_found` for an unknown pack or package, `usage` for what is no requirement."""
    _refuse_nothing(request)
    _refuse_bad_lines(base, request)
    packs = [_pack(context, base, node_id, ref) for node_id, ref in request.nodes]
    return Change(
        packs=tuple(packs),
        comfyui=_comfyui(context, base, request.comfyui) if request.comfyui else None,
        dependencies=request.dependencies,
        dropped=request.dropped,
        upgrades=request.upgrades,
    )


def plan_again(
    context: Context,
    base: State,
    tx: Transaction,
    pins: tuple[str, ...] | None,
    overrides: tuple[Override, ...] | None,
) -> Change:
    """The change of a record, at its very commits, with other pins and overrides where they are given."""
    packs = []
    for move in tx.moves():
        known = _registered(context, base, move.id)
        before = known.commit if known.promoted else None
        packs.append(_at(context, msgspec.structs.replace(known, commit=move.after, ref=move.ref), before))
    comfyui = None
    if tx.comfyui:
        pin = ComfyUIPin(tx.comfyui.repo, tx.comfyui.ref, tx.comfyui.after)
        comfyui = _comfyui_at(context, base, pin)
    return Change(
        packs=tuple(packs),
        comfyui=comfyui,
        dependencies=tx.dependencies,
        dropped=tx.dropped,
        upgrades=tx.upgrades,
        pins=tx.resolution_pins if pins is None else pins,
        overrides=tx.overrides if overrides is None else overrides,
    )


def _refuse_nothing(request: TxRequest) -> None:
    if not (request.nodes or request.comfyui or request.dependencies or request.dropped or request.upgrades):
        raise GovError(
            Code.USAGE,
            "there is nothing to try",
            "gov tx run NODE_ID, or --comfyui REF, --dep SPEC, --drop PACKAGE, --upgrade PACKAGE",
        )
    ids = [node_id for node_id, _ in request.nodes]
    if len(set(ids)) != len(ids):
        raise GovError(Code.USAGE, "a pack is named twice", "name each pack once")


def _refuse_bad_lines(base: State, request: TxRequest) -> None:
    for text in request.dependencies:
        if requirements.readable(text) is None:
            likely = requirements.suggestion(text)
            hint = f"did you mean '{likely}'?" if likely else "for example --dep 'einops>=0.8'"
            raise GovError(Code.USAGE, f"`{text}` is not a requirement", hint)
        if requirements.package_of(text) == PROJECT_NAME:
            raise GovError(Code.USAGE, f"`{text}` is what this home calls itself", "name another package")
    for name in request.upgrades:
        known = requirements.locked_names(base.uv_lock.decode()) - {PROJECT_NAME}
        _refuse_unknown("--upgrade", name, known | {"*"}, "production has no package", "gov outdated")
    for name in request.dropped:
        yours = {
            *base.declared.groups.get(locking.EXTRA_GROUP, ()),
            *(e.requirement for e in base.declared.resolutions),
        }
        known = frozenset(map(requirements.package_of, yours))
        _refuse_unknown("--drop", name, known, "you asked for no package", "gov tx run --drop NAME")


def _refuse_unknown(option: str, name: str, known: Collection[str], problem: str, hint: str) -> None:
    if name in known:
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise GovError(Code.USAGE, f"{option} takes the name of a package, not `{name}`", "--dep takes versions")
    if canonical(name) not in known:
        raise GovError(Code.NOT_FOUND, f"{option}: {problem} `{name}`", hint)


def unknown_node(context: Context, node_id: str) -> GovError:
    import difflib

    known = [plugin.id for plugin in context.head_state().registry.plugins]
    same = [name for name in known if canonical(name) == canonical(node_id)]
    near = same or difflib.get_close_matches(node_id, known, 1, 0.5)
    hint = f"did you mean `{near[0]}`?" if near else "gov node list (gov node add SOURCE registers a pack)"
    return GovError(Code.NOT_FOUND, f"there is no node pack `{node_id}` here", hint)


def _registered(context: Context, base: State, node_id: str) -> Plugin:
    plugin = base.registry.get(node_id)
    if plugin is None:
        raise unknown_node(context, node_id)
    return plugin


def _pack(context: Context, base: State, node_id: str, ref: str | None) -> PackOnTrial:
    plugin = _registered(context, base, node_id)
    before = plugin.commit if plugin.promoted else None
    if ref is None and before is None:
        return _at(context, plugin, before)
    wanted = plugin.ref if ref is None else ref
    return _at(
        context, msgspec.structs.replace(plugin, ref=wanted, commit=newest(context, plugin.source, wanted)), before
    )


def at_newest(context: Context, plugin: Plugin) -> PackOnTrial:
    """A registered pack at the newest commit of what it follows."""
    commit = newest(context, plugin.source, plugin.ref)
    return _at(context, msgspec.structs.replace(plugin, commit=commit), plugin.commit if plugin.promoted else None)


def at_commit(context: Context, pack: PackOnTrial, commit: str) -> PackOnTrial:
    """The same pack at another commit, which it would be pinned to."""
    return _at(context, msgspec.structs.replace(pack.plugin, commit=commit, ref=commit), pack.before)


def newest(context: Context, recorded: str, ref: str | None) -> str:
    """The commit that `ref` (None: the default branch) names at the source now."""
    source = recorded_source(recorded)
    if ref and re.fullmatch(r"[0-9a-f]{40}", ref) and context.git.has_commit(source, ref):
        return ref
    context.git.fetch(source, ref)
    return context.git.resolve(source, ref)


def _at(context: Context, plugin: Plugin, before: str | None) -> PackOnTrial:
    repository = clones.ensure_cached(context.git, recorded_source(plugin.source), plugin.commit)
    archive = node_registry.sum_of(context.git, recorded_source(plugin.source), plugin.commit)
    plugin = msgspec.structs.replace(plugin, tree=context.git.tree_of(repository, plugin.commit), archive=archive)
    return PackOnTrial(plugin, read_declared(context, plugin), before)


def read_declared(context: Context, plugin: Plugin) -> Declared:
    """What the pack asks for at its commit."""
    repository = context.git.cache_of(recorded_source(plugin.source))
    return requirements.read_declared(lambda path: context.git.show(repository, plugin.commit, path))


def _comfyui(context: Context, base: State, ref: str) -> ComfyUIOnTrial:
    pin = base.declared.comfyui
    try:
        commit = newest(context, pin.repo, ref)
    except GovError as error:
        if error.code is Code.REF_NOT_FOUND:
            error.hint = error.hint if error.hint.startswith("near") else "gov outdated shows what there is"
        raise
    return _comfyui_at(context, base, ComfyUIPin(pin.repo, ref, commit))


def _comfyui_at(context: Context, base: State, pin: ComfyUIPin) -> ComfyUIOnTrial:
    repository = clones.ensure_cached(context.git, recorded_source(pin.repo), pin.commit)
    text = context.git.show(repository, pin.commit, "requirements.txt")
    if text is None or context.git.show(repository, pin.commit, "main.py") is None:
        raise GovError(
            Code.NOT_COMFYUI, f"{pin.repo} at {pin.ref or pin.commit} is no ComfyUI", "name another --comfyui REF"
        )
    declared = requirements.read_requirements_text(text, "requirements.txt")
    said = context.git.show(repository, pin.commit, "comfyui_version.py") or ""
    version = re.search(r"__version__\s*=\s*[\"']([^\"']+)", said)
    before = base.declared.comfyui.commit
    return ComfyUIOnTrial(pin, declared, before, version[1] if version else "")
