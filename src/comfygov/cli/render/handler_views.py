"""Results of `gov handler …` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.handler_run import Ran


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
