"""Results of `gov handler …` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.handler_check import Checked
    from comfygov.ops.handler_run import Ran
    from comfygov.ops.handler_serve import Served


def result_lines(ran: Ran, out_file: str | None) -> Iterator[str]:
    """The result itself, or where it is: programs read it."""
    if ran.result is None:
        return
    if out_file is None:
        import msgspec

        yield from msgspec.json.format(msgspec.json.encode(ran.result)).decode().splitlines()
        return
    images, others = len(ran.result.images), len(ran.result.artifacts)
    yield f"{out_file}: {plural(images, 'image')}, {plural(others, 'other artifact')}, {ran.result.timing.total:.2f} s"


def served_lines(served: Served) -> Iterator[str]:
    counts = ", ".join(f"{count} {status}" for status, count in served.jobs.items() if count)
    yield f"version {served.version}: {served.seconds:.0f} s{f', jobs: {counts}' if counts else ''}"


def checked_lines(checked: Checked) -> Iterator[str]:
    versions = f"ComfyUI {checked.comfyui_version}, torch {checked.pytorch_version or '-'}, {checked.device}"
    yield f"version {checked.version} comes up in {checked.boot_seconds:.1f} s ({versions})"
    for pack in checked.packs:
        state = f"{plural(len(pack.classes), 'class').replace('classs', 'classes')}" if pack.loaded else pack.reason
        yield f"  {pack.name}: {state}"
    for name in checked.core_failures:
        yield f"  {name} of ComfyUI itself does not import"
    for name in checked.missing_classes:
        yield f"  missing: {name}"
