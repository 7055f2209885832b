"""`gov version …`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, command_line, common, offer, open_context, progress, show
from comfygov.cli.models_options import judged
from comfygov.cli.version_create import create
from comfygov.cli.version_remove import bundle, remove
from comfygov.errors import Code, GovError


@click.group()
@common
def version() -> None:
    """States under a name: one file that any machine can reproduce and prove."""


@version.command()
@click.argument("name", required=False, shell_complete=offer("versions"))
@click.option("--lock", metavar="F", help="A lock file, in place of a version of the home.")
@click.option("--target", required=True, metavar="DIR", help="Where the new home shall be: new, or an empty folder.")
@click.option("--python", metavar="PY", help="Python to build on: a path, or a version such as 3.12.")
@click.option("--skip-models", is_flag=True, help="Write the model spec, and fetch nothing.")
@click.option("--offline", is_flag=True, help="Ask no server: only caches and folders of this machine.")
@click.option("--wheels-dir", metavar="DIR", help="A folder with wheels of the lock; taken by their sums.")
@click.option("--torch-backend", metavar="B", help="The build of torch, among those that the version carries.")
@common
def clone(
    options: Options,
    name: str | None,
    lock: str | None,
    target: str,
    python: str | None,
    skip_models: bool,
    offline: bool,
    wheels_dir: str | None,
    torch_backend: str | None,
) -> int:
    """Make a new home as a version says, and prove it: its own lock has the same digest. Exit 3 if not."""
    from comfygov.cli.render.version_views import cloned_lines
    from comfygov.ops.version_clone import CloneRequest
    from comfygov.ops.version_clone import clone as make

    request = CloneRequest(target, name, lock, options.home, python, skip_models, offline, wheels_dir, torch_backend)
    result = make(request, command_line(), progress(options))
    error = None
    if not result.identical:
        hint = f"gov version verify {lock or name} --home {result.home} says it again"
        error = GovError(Code.DRIFT, f"the clone {result.home} is not what the version says", hint)
    return judged(options, result, cloned_lines(result), result.differences, error)


@version.command(name="list")
@common
def list_(options: Options) -> None:
    """The versions of the home."""
    from comfygov.cli.render.version_views import list_lines
    from comfygov.ops.version_view import list_versions

    result = list_versions(open_context(options))
    show(options, result, list_lines(result))


@version.command(name="show")
@click.argument("name", shell_complete=offer("versions"))
@common
def show_(options: Options, name: str) -> None:
    """What a version (or a lock file) holds."""
    from comfygov.cli.render.version_views import shown_lines
    from comfygov.ops.version_view import load

    result = load(name, options.home)
    show(options, result, shown_lines(result))


@version.command()
@click.argument("before", shell_complete=offer("versions"))
@click.argument("after", shell_complete=offer("versions"))
@common
def diff(options: Options, before: str, after: str) -> None:
    """What is different in AFTER: versions of the home, or lock files."""
    from comfygov.cli.render.version_views import compared_lines
    from comfygov.ops.version_view import compare

    result = compare(before, after, options.home, command_line(), progress(options))
    show(options, result, compared_lines(result))


@version.command()
@click.argument("name", shell_complete=offer("versions"))
@common
def verify(options: Options, name: str) -> int:
    """Hold the home against a version or a lock file. Exit 3 when it is not that."""
    from comfygov.cli.render.version_views import verified_lines
    from comfygov.ops.version_view import verify as compare

    result = compare(open_context(options), name)
    error = None
    if not result.identical:
        error = GovError(Code.DRIFT, f"the home is not what {name} says", "gov version clone makes one that is")
    return judged(options, result, verified_lines(result), result.differences, error)


version.add_command(create)
version.add_command(bundle)
version.add_command(remove)
