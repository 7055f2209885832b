"""`gov version remove` and `gov version bundle`."""

from __future__ import annotations

import sys

import click

from comfygov.cli.entry import Options, command_line, common, progress, show
from comfygov.errors import Code, GovError


@click.command()
@click.option("--target", required=True, metavar="DIR", help="The home that is to go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--remove-models", is_flag=True, help="Remove the models folder too; the shared cache stays.")
@click.option("--dry-run", is_flag=True, help="Only say what would go and what would stay.")
@common
def remove(options: Options, target: str, yes: bool, remove_models: bool, dry_run: bool) -> None:
    """Remove a home: what comfygov made there, and nothing else. Files of yours and models stay."""
    from comfygov.cli.render.version_views import removed_lines
    from comfygov.ops.version_remove import RemoveRequest
    from comfygov.ops.version_remove import remove as take_away

    request = RemoveRequest(target, remove_models, dry_run)
    if not (yes or dry_run):
        _ask(target)
    result = take_away(request, command_line(), progress(options))
    show(options, result, removed_lines(result))


def _ask(target: str) -> None:
    if not sys.stdin.isatty():
        raise GovError(Code.USAGE, f"{target} would be removed", "add --yes, or --dry-run to see what would go")
    if not click.confirm(f"Remove the home {target}?", err=True):
        raise GovError(Code.INTERRUPTED, "nothing was removed")


@click.command()
@click.argument("name", required=False)
@click.option("--lock", metavar="F", help="A lock file, in place of a version of the home.")
@click.option("-o", "--output", required=True, metavar="F", help="The file to write.")
@click.option("--with-models", is_flag=True, help="Put the models in too.")
@common
def bundle(options: Options, name: str | None, lock: str | None, output: str, with_models: bool) -> None:
    """One file with everything that a clone needs on a machine without a network: `gov version clone --lock F`."""
    from comfygov.cli.render.version_views import bundled_lines
    from comfygov.ops.version_bundle import bundle as pack
    from comfygov.ops.version_find import find
    from comfygov.ops.version_view import without_home

    found = find(name, lock, options.home)
    try:
        result = pack(without_home(command_line(), progress(options)), found, output, with_models=with_models)
    finally:
        found.forget()
    show(options, result, bundled_lines(result), findings=result.missing)
