"""`gov verify`, `gov gc` and `gov audit`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, open_context, show
from comfygov.errors import Code, GovError


@click.command()
@click.option("--deep", is_flag=True, help="Read contents too: every file's sha256, the audit chain, the snapshots.")
@common
def verify(options: Options, deep: bool) -> int:
    """Compare the world with head: environment, code, truth files, links, rights. Only reads."""
    from comfygov.cli.render.care_views import verified_lines
    from comfygov.ops.verify import verify as compare

    result = compare(open_context(options), deep=deep)
    error = None
    if result.findings:
        count = len(result.findings)
        message = f"production differs from {result.snapshot} in {count} point{'' if count == 1 else 's'}"
        error = GovError(Code.DRIFT, message, result.findings[0].mend)
    show(options, result, verified_lines(result), findings=result.findings, error=error)
    return error.exit_code if error else 0


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
def gc(options: Options, dry_run: bool) -> None:
    """Remove environments, work and leftovers that neither head, a snapshot nor an open transaction needs."""
    from comfygov.cli.render.care_views import gc_lines
    from comfygov.ops.gc import collect

    result = collect(open_context(options), dry_run=dry_run)
    show(options, result, gc_lines(result))


@click.command()
@click.option("--check", is_flag=True, help="Follow the chain: find edits, deletions, reordering, truncation.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many of the last lines; 0 shows all.",
)
@common
def audit(options: Options, check: bool, lines: int) -> int:
    """What was changed here: when, by whom, with which command, from which snapshot to which."""
    from comfygov.cli.render.care_views import audit_checked_lines, audit_lines
    from comfygov.ops import audit as record

    context = open_context(options)
    if not check:
        log = record.read(context, lines)
        show(options, log, audit_lines(log))
        return 0
    result = record.check(context)
    error = None
    if result.problems:
        error = GovError(Code.AUDIT_BROKEN, "state/audit.jsonl or a snapshot was changed by hand", "gov verify --deep")
    show(options, result, audit_checked_lines(result), findings=result.problems, error=error)
    return error.exit_code if error else 0
