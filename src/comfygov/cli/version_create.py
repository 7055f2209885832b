"""`gov version create`: of a home, or without one from what is named."""

from __future__ import annotations

from typing import Any

import click

from comfygov.cli.entry import Options, command_line, common, open_context, progress, show
from comfygov.errors import Code, GovError

_WITHOUT_A_HOME = ("comfy_repo", "comfy_path")


@click.command()
@click.argument("name", required=False)
@click.option("--name", "named", metavar="NAME", help="The same as the argument.")
@click.option("--output", metavar="F", help="Where to write it (default: lockfiles/comfy-NAME.lock.json).")
@click.option("--overwrite", is_flag=True, help="Replace a version of this name that is another state.")
@click.option("--pretty/--compact", default=True, help="Indented for people (the default), or on one line.")
@click.option("--comfy-repo", metavar="URL", help="Without a home: ComfyUI from here.")
@click.option("--comfy-ref", metavar="R", help="Its branch, tag or commit.")
@click.option("--comfy-path", metavar="P", help="Without a home: this checkout of ComfyUI, with its edits.")
@click.option("--custom-node", "custom_nodes", multiple=True, metavar="repo=URL,name=NAME[,ref=R|,commit=C|,path=P]")
@click.option("--requirements", multiple=True, metavar="F", help="Further requirements.")
@click.option("--models-spec", metavar="F", help="Spec of the models.")
@click.option("--models-dir", metavar="D", help="Where they are (default: beside the spec).")
@click.option("--venv", metavar="P", help="Freeze this environment as it is; nothing else is asked for.")
@click.option("--platform", "platforms", multiple=True, metavar="P", help="Hold this too (default: linux-x86_64).")
@click.option("--torch-backend", "torch_backends", multiple=True, metavar="B", help="Carry this build: cpu, cuNNN, ….")
@click.option("--python", metavar="PY", help="The Python that it is for.")
@click.option("--as-of", metavar="WHEN", help="See the index as it was then: a day, a time, or `commit` (ComfyUI's).")
@click.option("--find-links", multiple=True, metavar="DIR", help="A directory of wheels for the resolver.")
@click.option("--index-url", default="", metavar="URL", help="The package index (`none`: only --find-links).")
@common
def create(options: Options, name: str | None, named: str | None, **given: Any) -> None:  # noqa: ANN401
    """Write down what production is: code, edits, packages with hashes, models. With --comfy-repo or --comfy-path no
    home is needed: refs become commits, and requirements a lock."""
    from comfygov.cli.render.version_views import created_lines

    wanted = named or name
    if wanted is None or (named and name and named != name):
        raise GovError(Code.USAGE, "a version needs one name", "gov version create NAME")
    result = _without_a_home(options, wanted, given) if _names_code(given) else _of_home(options, wanted, given)
    show(options, result, created_lines(result), findings=result.findings)


def _names_code(given: dict[str, Any]) -> bool:
    return any(given[key] for key in _WITHOUT_A_HOME)


def _of_home(options: Options, name: str, given: dict[str, Any]) -> Any:  # noqa: ANN401
    from comfygov.ops.version_create import CreateRequest, create

    mine = ("output", "overwrite", "pretty", "platforms", "torch_backends")
    odd = [key for key, value in given.items() if value and key not in mine]
    if odd:
        option = odd[0].replace("custom_nodes", "custom_node").replace("_", "-")
        raise GovError(Code.USAGE, f"--{option} is for a version without a home", "add --comfy-repo or --comfy-path")
    return create(open_context(options), CreateRequest(name, **{key: given[key] for key in mine}))


def _without_a_home(options: Options, name: str, given: dict[str, Any]) -> Any:  # noqa: ANN401
    from comfygov.ops.version_assemble import AssembleRequest, assemble

    request = AssembleRequest(name=name, **given)
    return assemble(request, command_line(), progress(options))
