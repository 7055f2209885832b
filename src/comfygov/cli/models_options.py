"""Options that the commands about models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from comfygov.cli.entry import Options, command_line, progress, show
from comfygov.cli.render import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from comfygov.errors import GovError
    from comfygov.ops.models_place import Place

_DIR_HELP = "The models folder (default: the home's). With it no home is needed."


def placed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which models folder and which spec a command is about."""
    command = click.option("--spec", metavar="F", help="Spec, YAML or JSON (default: spec.yml in it).")(command)
    command = click.option("--lock", metavar="F", help="Lock of a version, in place of a spec.")(command)
    return click.option("--models-dir", metavar="D", help=_DIR_HELP)(command)


jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 64), metavar="N", help="Files at once (default: 4; sums: as many as cores)."
)


def open_at(options: Options, models_dir: str | None, spec: str | None, lock: str | None, jobs: int | None) -> Place:
    from comfygov.ops.models_place import Asked, open_place

    return open_place(Asked(options.home, models_dir, spec, lock, jobs), command_line(), progress(options))


def judged(
    options: Options, result: object, lines: Iterable[str], findings: Sequence[object], error: GovError | None
) -> int:
    """Show a result that may not be what was wanted; the exit code that belongs to it."""
    show(options, result, lines, findings=findings, error=error)
    if error is None:
        return 0
    if not options.json:
        output.emit_error(error)
    return error.exit_code
