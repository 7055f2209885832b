"""`gov models …`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from comfygov.cli.entry import Options, command_line, common, show
from comfygov.cli.models_options import jobs_option, judged, open_at, placed
from comfygov.errors import Code, GovError


@click.group()
@common
def models() -> None:
    """Model files: what a spec names, where it comes from, whether it is right."""


@models.command()
@placed
@jobs_option
@click.option("--overwrite", is_flag=True, help="Replace files that are wrong by what the spec says.")
@click.option("--record", is_flag=True, help="Write sums that were found into the spec, where it has none.")
@click.option("--offline", is_flag=True, help="Ask no server: only the cache and local sources.")
@common
def verify(options: Options, *, overwrite: bool, record: bool, offline: bool, **where: Any) -> int:  # noqa: ANN401
    """Say of every model whether it is there and right; fetch what is missing. Exit 0 only if all are right."""
    from comfygov.cli.render.models_views import verify_lines
    from comfygov.ops.models_verify import VerifyRequest, problem_of
    from comfygov.ops.models_verify import verify as compare

    result = compare(open_at(options, **where), VerifyRequest(overwrite, offline, record))
    lines = verify_lines(result, verbose=options.verbose)
    return judged(options, result, lines, result.bad, problem_of(result, overwrite=overwrite))


@models.command()
@click.argument("source")
@placed
@click.option("--to", "folder", required=True, metavar="KIND", help="checkpoints, loras, … or a folder below it.")
@click.option("--name", help="The file's name (default: what the address or the server says).")
@click.option("--checksum", metavar="SHA256", help="What it must be; anything else is refused.")
@common
def add(options: Options, source: str, folder: str, name: str | None, checksum: str | None, **where: Any) -> None:  # noqa: ANN401
    """Fetch one file from SOURCE and write it into the spec, with its sum."""
    from comfygov.cli.render.models_views import added_lines
    from comfygov.ops.models_add import AddRequest
    from comfygov.ops.models_add import add as fetch

    result = fetch(open_at(options, jobs=None, **where), AddRequest(source, folder, name, checksum))
    show(options, result, added_lines(result))


@models.command(name="list")
@placed
@common
def list_(options: Options, **where: Any) -> None:  # noqa: ANN401
    """What the spec names, and what is known of it. Reads no model."""
    from comfygov.cli.render.models_views import list_lines
    from comfygov.ops.models_list import list_models

    result = list_models(open_at(options, jobs=None, **where))
    show(options, result, list_lines(result))


@models.command()
@placed
@jobs_option
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@common
def scan(options: Options, *, dry_run: bool, **where: Any) -> int:  # noqa: ANN401
    """Take the model files that are there into the spec, with sums. Entries that it has stay as they are."""
    from comfygov.cli.render.models_views import scan_lines
    from comfygov.ops.models_scan import scan as read

    result = read(open_at(options, **where), dry_run=dry_run)
    count = len(result.problems)
    message = f"{count} model file{' was' if count == 1 else 's were'} not taken into the spec"
    error = GovError(Code.DRIFT, message, "fetch them again, rename or remove them") if count else None
    return judged(options, result, scan_lines(result), result.problems, error)


@models.command()
@click.argument("workflow", type=click.Path(path_type=Path))
@placed
@common
def needed(options: Options, workflow: Path, **where: Any) -> None:  # noqa: ANN401
    """The model files that WORKFLOW (API or UI format) names: present, locked (in the spec) or unknown."""
    from comfygov.cli.render.models_views import needed_lines
    from comfygov.ops.models_needed import needed as find

    result = find(open_at(options, jobs=None, **where), workflow)
    show(options, result, needed_lines(result), findings=result.missing)


@models.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
def gc(options: Options, *, dry_run: bool) -> None:
    """Remove models from the cache that no models folder has, and downloads that were given up."""
    from comfygov.cli.render.models_views import gc_lines
    from comfygov.ops.models_place import collect_garbage

    result = collect_garbage(command_line(), dry_run=dry_run)
    show(options, result, gc_lines(result))
