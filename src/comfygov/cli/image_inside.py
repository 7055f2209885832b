"""`gov image start`, the first program of an image, and `gov image health`."""

from __future__ import annotations

from typing import Any

import click

from comfygov.cli.entry import Options, common
from comfygov.cli.models_options import judged
from comfygov.errors import Code, GovError


@click.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("mode", required=False, type=click.Choice(["runpod", "http", "job", "page", "check", "smoke"]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@common
def start(options: Options, mode: Any, arguments: tuple[str, ...]) -> int:  # noqa: ANN401
    """Inside an image: serve RunPod jobs, plain HTTP, one job, ComfyUI's page, or check the files."""
    if mode != "check":
        from comfygov.ops import image_start

        image_start.start(mode, arguments)
    from comfygov.cli.render.image_views import checked_lines
    from comfygov.ops import image_inside

    result = image_inside.check_self()
    error = None
    if result.problems:
        error = GovError(Code.DRIFT, "this image is not what its lock says", "build it again")
    return judged(options, result, checked_lines(result), (), error)


@click.command(hidden=True)
@common
def health(options: Options) -> int:
    """Inside an image: exit 0 when what it was started for is well."""
    from comfygov.ops import image_start

    found = image_start.health()
    error = None if found.alive else GovError(Code.NOT_READY, f"it is not well: {found.reason}", "its log says why")
    return judged(options, found, [found.reason], (), error)
