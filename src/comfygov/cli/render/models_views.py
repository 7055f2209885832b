"""Results of `gov models …` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.care_views import size
from comfygov.cli.render.text import plural, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.models_add import AddResult
    from comfygov.ops.models_gc import ModelsGcResult
    from comfygov.ops.models_list import ListResult
    from comfygov.ops.models_needed import NeededResult
    from comfygov.ops.models_scan import ScanResult
    from comfygov.ops.models_verify import VerifyResult

_MANY = 40


def verify_lines(result: VerifyResult, *, verbose: bool) -> Iterator[str]:
    """Everything that is not simply right; what is right only when there are few, or when asked for."""
    show_all = verbose or len(result.models) <= _MANY
    for model in result.models:
        if not show_all and model.status == "present":
            continue
        amount = size(model.size) if model.size is not None else "-"
        tail = f"  {model.problem}" if model.problem else f"  from {model.source}" if model.source else ""
        yield f"{model.status:<12}  {amount:>9}  {model.target_path}{tail}"
        if model.status in ("unverifiable", "recorded") and model.checksum:
            yield f"    it has {model.checksum}"
        yield from (f"    skipped {line}" for line in model.skipped)
    counts = ", ".join(f"{count} {status}" for status, count in result.counts.items()) or "nothing in the spec"
    read = f"{size(result.checked_bytes)} read, {size(result.fetched_bytes)} fetched"
    total = f"{plural(len(result.models), 'model')}, {size(result.total_bytes)}"
    yield f"{total}: {counts} ({read}, {result.seconds:.1f} s)"


def added_lines(result: AddResult) -> Iterator[str]:
    yield f"{result.path}  {size(result.size)}"
    yield f"    {result.checksum}"
    yield f"written into {result.spec}"


def list_lines(result: ListResult) -> Iterator[str]:
    rows = [
        (
            model.status,
            size(model.size) if model.size is not None else "-",
            (model.checksum or "-")[:19],
            model.target_path,
        )
        for model in result.models
    ]
    if rows:
        yield from table(rows, ("status", "size", "checksum", "file"))
    else:
        yield f"no models in {result.spec}"


def scan_lines(result: ScanResult) -> Iterator[str]:
    for model in result.problems:
        yield f"refused  {size(model.size):>9}  {model.target_path}: {model.problem}"
    for model in result.added:
        kind = f"  ({model.facts.kind})" if model.facts and model.facts.kind else ""
        yield f"added    {size(model.size):>9}  {model.target_path}{kind}"
    word = "would be written into" if result.dry_run else "written into"
    known = f", {result.known} known before" if result.known else ""
    yield f"{plural(len(result.added), 'model')} {word} {result.spec}{known}"


def needed_lines(result: NeededResult) -> Iterator[str]:
    rows = [(model.status, model.folder or "(any)", model.name, model.node) for model in result.models]
    if rows:
        yield from table(rows, ("status", "folder", "model", "named by"))
    else:
        yield "the workflow names no model files"
    yield from (f"{model.name}: {model.url}" for model in result.missing if model.url)


def gc_lines(result: ModelsGcResult) -> Iterator[str]:
    word = "would free" if result.dry_run else "freed"
    for item in result.removed:
        yield f"{item.kind:<9}{size(item.bytes):>9}  {item.path}  ({item.reason})"
    yield f"{word} {size(result.freed_bytes)}" if result.removed else "nothing to remove"
    if result.kept_blobs:
        yield f"{plural(result.kept_blobs, 'model')} in use, {size(result.kept_bytes)}"
