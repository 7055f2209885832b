"""`gov demo`."""

from __future__ import annotations

from pathlib import Path

import click

from comfygov.cli.entry import Options, common, progress, show


@click.command()
@click.option(
    "--path", metavar="DIR", default="comfygov-demo", show_default=True, help="Where it plays; it stays there."
)
@common
def demo(options: Options, path: str) -> None:
    """The whole life of a change on an embedded stand-in for ComfyUI, in about a minute."""
    from comfygov.cli.render.views import demo_lines
    from comfygov.ops.demo import demo as play

    result = play(Path(path), progress(options))
    show(options, result, demo_lines(result))
