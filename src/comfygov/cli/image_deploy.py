"""`gov image deploy-files`."""

from __future__ import annotations

from typing import Any

import click

from comfygov.cli.entry import Options, common, show
from comfygov.cli.image_options import which_version


@click.command(name="deploy-files")
@which_version
@click.option("--target", required=True, type=click.Choice(["runpod", "kubernetes"]), help="What shall run the image.")
@click.option("-o", "--output", required=True, metavar="DIR", help="Where the files shall be: new, or empty.")
@click.option("--image", required=True, metavar="IMAGE", help="The image, as its registry knows it.")
@click.option("--torch-backend", metavar="B", help="The torch build that the image has.")
@click.option("--with-models", is_flag=True, help="The image has the models of the lock: no volume for them.")
@click.option("--workers", type=click.IntRange(1, 1000), default=3, show_default=True, help="At most so many.")
@click.option("--namespace", default="default", show_default=True, metavar="NS", help="Of Kubernetes.")
@common
def deploy_files(options: Options, **given: Any) -> None:  # noqa: ANN401 (click's own shape)
    """Write what RunPod (template, endpoint) or Kubernetes (Deployment, Service, volume, KEDA) needs."""
    from comfygov.ops.image_deploy import DeployRequest, write

    result = write(DeployRequest(home=options.home, **given))
    show(options, result, [result.path, *result.files])
