"""Results of `gov version …` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.care_views import size
from comfygov.cli.render.text import MANY, plural, short, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from comfygov.model.version import VersionDifference, VersionLock
    from comfygov.ops.version_bundle import Bundled
    from comfygov.ops.version_clone import Cloned
    from comfygov.ops.version_create import Created
    from comfygov.ops.version_remove import Removal
    from comfygov.ops.version_view import Compared, VersionList, VersionVerified


def created_lines(result: Created) -> Iterator[str]:
    yield result.path
    counts = (plural(result.nodes, "pack"), plural(result.packages, "package"), plural(result.models, "model"))
    yield f"version {result.name}: {', '.join(counts)}" + (", as it was already" if result.unchanged else "")
    yield f"digest {result.digest}"
    for finding in result.findings:
        yield f"note: {finding.subject}: {finding.problem}"


def cloned_lines(result: Cloned) -> Iterator[str]:
    yield result.home
    if result.torch_backend not in ("", "default"):
        yield f"torch build {result.torch_backend}"
    if result.shared_with:
        yield f"environment shared with {result.shared_with}"
    for status, count in result.models.items():
        yield f"models {status}: {count}"
    yield from _differences(result.differences)
    yield f"{'identical' if result.identical else 'different'}: {result.clone_digest}"


def _differences(found: Sequence[VersionDifference]) -> Iterator[str]:
    for one in found[:MANY]:
        yield f"{one.kind:<8} {one.name}: {_move(one)}"
    if len(found) > MANY:
        yield f"… and {len(found) - MANY} more (--json shows all)"


def _move(one: VersionDifference) -> str:
    if not one.before and one.after is not None:
        return one.after if one.before == "" else f"+ {one.after}"
    return f"- {one.before}" if one.after is None else f"{one.before} -> {one.after}"


def list_lines(result: VersionList) -> Iterator[str]:
    if not result.versions:
        yield "no versions yet: gov version create NAME"
        return
    rows = [
        (row.name, short(row.comfyui), str(row.nodes), str(row.packages), str(row.models), row.problem or row.digest)
        for row in result.versions
    ]
    yield from table(rows, ("version", "ComfyUI", "packs", "packages", "models", "digest"))


def shown_lines(lock: VersionLock) -> Iterator[str]:
    yield f"version {lock.version_name}  {lock.digest}"
    yield f"ComfyUI  {lock.comfyui.repo}  {lock.comfyui.ref or ''} {short(lock.comfyui.commit)}{_edited(lock.comfyui)}"
    for node in lock.custom_nodes:
        how = "enabled" if node.enabled else "disabled" if node.promoted else "not promoted"
        yield f"pack     {node.name}  {node.repo}  {node.ref or ''} {short(node.commit)}  {how}{_edited(node)}"
    count = plural(len(lock.python.packages), "package")
    yield f"Python   {lock.python.requires}, {count}; made on {lock.python.platform}"
    for marker in lock.python.platforms:
        yield f"for      {marker}"
    if lock.python.torch_backends:
        yield f"torch    {', '.join(lock.python.torch_backends)}; made with {lock.python.torch_backend}"
    for model in lock.models:
        yield f"model    {model.target_path}  {model.checksum[:23]}…  {model.size or '?'} bytes"


def _edited(code: object) -> str:
    count = len(getattr(code, "patch", ()))
    return f"  with {plural(count, 'edited file')}" if count else ""


def compared_lines(result: Compared) -> Iterator[str]:
    if result.identical:
        yield "identical"
        return
    yield from _differences(result.differences)
    for code in result.commits:
        if code.commits:
            yield f"commits of {code.name}:"
        for line in code.commits[:MANY]:
            yield f"  {line}"


def bundled_lines(result: Bundled) -> Iterator[str]:
    yield result.path
    counts = (plural(result.wheels, "wheel"), f"{result.repositories} repositories", plural(result.models, "model"))
    yield f"{', '.join(counts)}, {size(result.bytes)}"
    for finding in result.missing:
        yield f"missing: {finding.subject}: {finding.problem}"


def removed_lines(result: Removal) -> Iterator[str]:
    word = "would remove" if result.dry_run else "removed"
    for path in result.removed:
        yield f"{word}  {path}"
    for line in result.kept[:MANY]:
        yield f"kept  {line}"
    if len(result.kept) > MANY:
        yield f"… and {len(result.kept) - MANY} more (--json shows all)"


def verified_lines(result: VersionVerified) -> Iterator[str]:
    yield from _differences(result.differences)
    yield f"{'identical' if result.identical else 'different'}: {result.home_digest}"
