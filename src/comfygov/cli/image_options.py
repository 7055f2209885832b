"""Options that `gov image context` and `build` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from comfygov.cli.entry import Options, offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.ops.image_context import ContextRequest

ENGINES = click.Choice(["docker", "podman", "buildah"])


def which_version(command: Callable[..., Any]) -> Callable[..., Any]:
    for add in (
        click.option("--lock", metavar="F", help="A lock file or bundle; no home is needed then."),
        click.option("--version", "name", metavar="NAME", shell_complete=offer("versions"), help="A version."),
    ):
        command = add(command)
    return command


def contents(command: Callable[..., Any]) -> Callable[..., Any]:
    """What decides what is in an image."""
    for add in (
        click.option("--wheels-dir", metavar="DIR", help="A folder with wheels of the lock that no index has."),
        click.option("--no-extras", is_flag=True, help="Leave the RunPod SDK and the storage clients out."),
        click.option("--with-models", is_flag=True, help="Bake the models of the lock in."),
        click.option("--torch-backend", metavar="B", help="Which of the lock's torch builds: cpu, cu128, …"),
        click.option("--uv-image", metavar="IMAGE", help="Where the program uv is taken from."),
        click.option("--base", metavar="IMAGE@DIGEST", help="The base image: Python of the lock's minor version."),
    ):
        command = add(command)
    return command


def request_of(options: Options, output: str, given: dict[str, Any]) -> ContextRequest:
    from comfygov.ops.image_context import DEFAULT_UV, ContextRequest

    return ContextRequest(
        output=output,
        name=given["name"],
        lock=given["lock"],
        home=options.home,
        base=given["base"],
        uv=given["uv_image"] or DEFAULT_UV,
        torch_backend=given["torch_backend"],
        with_models=given["with_models"],
        extras=not given["no_extras"],
        wheels_dir=given["wheels_dir"],
    )
