"""`gov image …`."""

from __future__ import annotations

from typing import Any

import click

from comfygov.cli.entry import Options, command_line, common, progress, show
from comfygov.cli.image_deploy import deploy_files
from comfygov.cli.image_inside import health, start
from comfygov.cli.image_options import ENGINES, contents, request_of, which_version
from comfygov.cli.models_options import judged
from comfygov.errors import Code, GovError


@click.group()
@common
def image() -> None:
    """A version as a container image that needs nothing but a driver and its models."""


@image.command()
@which_version
@click.option("-o", "--output", required=True, metavar="DIR", help="Where the context shall be: new, or empty.")
@contents
@common
def context(options: Options, output: str, **given: Any) -> None:  # noqa: ANN401 (click's own shape)
    """Write all that a build needs into a folder: for review, or for `docker build` elsewhere."""
    from comfygov.cli.render.image_views import context_lines
    from comfygov.ops.image_context import make

    result = make(request_of(options, output, given), command_line(), progress(options))
    show(options, result, context_lines(result))


@image.command()
@which_version
@click.option("--tag", metavar="T", help="Its name (default: comfygov:NAME).")
@click.option("--engine", type=ENGINES, help="What builds it (default: the first of these that runs).")
@contents
@click.option("--secret", "secrets", multiple=True, metavar="id=netrc,src=F", help="For the package index; not kept.")
@click.option("--push", is_flag=True, help="Push it to the registry that its tag names.")
@click.option("--sbom", metavar="F", help="Write the bill of materials (CycloneDX) here too.")
@common
def build(
    options: Options,
    tag: str | None,
    engine: Any,  # noqa: ANN401
    secrets: tuple[str, ...],
    push: bool,
    sbom: str | None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Build an image, and let its ComfyUI start once: a pack that does not import fails the build."""
    from comfygov.cli.render.image_views import built_lines
    from comfygov.ops.image_build import BuildRequest
    from comfygov.ops.image_build import build as make

    request = BuildRequest(request_of(options, "", given), tag, engine, push, sbom, secrets, options.verbose)
    result = make(request, command_line(), progress(options))
    show(options, result, built_lines(result))


@image.command()
@click.argument("name_of_image", metavar="IMAGE")
@which_version
@click.option("--engine", type=ENGINES, help="Which engine has the image.")
@common
def verify(options: Options, name_of_image: str, lock: str | None, name: str | None, engine: Any) -> int:  # noqa: ANN401
    """Let an image check itself, and compare it with a version. Exit 3 if it is another."""
    from comfygov.cli.render.image_views import verified_lines
    from comfygov.ops.image_build import verify as look

    result = look(name_of_image, name, lock, options.home, engine)
    error = None
    if not result.identical:
        error = GovError(Code.DRIFT, f"{result.image} is not what the version says", "gov image build")
    return judged(options, result, verified_lines(result), (), error)


image.add_command(start)
image.add_command(health)
image.add_command(deploy_files)
