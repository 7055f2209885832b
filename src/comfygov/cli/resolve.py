"""`gov resolve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from comfygov.cli.entry import Options, common, offer, open_context, reason_option, show, timeout_option
from comfygov.cli.render import output
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from comfygov.ops.context import Context


@click.command()
@click.argument("txid", shell_complete=offer("transactions"))
@click.option("--pin", "pins", multiple=True, metavar="P==V", help="Hold a package at a version (repeated).")
@click.option("--override", "overrides", multiple=True, metavar="P==V", help="Force a version for all (repeated).")
@click.option("--unpin", "unpinned", multiple=True, metavar="PACKAGE", help="Take back a pin or a forced version.")
@click.option("--suggest", "suggesting", is_flag=True, help="Show what would work and what it costs; change nothing.")
@reason_option
@timeout_option("Seconds that ComfyUI has to become ready.")
@common
def resolve(
    options: Options,
    txid: str,
    pins: tuple[str, ...],
    overrides: tuple[str, ...],
    unpinned: tuple[str, ...],
    suggesting: bool,
    reason: str,
    timeout: float | None,
) -> int:
    """Make a change fit that has no solution, and try it again. Production is only read.

    Without an option the pins are asked for, `package==version` line by line; an empty line ends.
    """
    from comfygov.cli.trial import show_trial
    from comfygov.ops.resolving import ResolveRequest, open_transaction
    from comfygov.ops.resolving import resolve as try_again

    context = open_context(options)
    if suggesting:
        if pins or overrides or unpinned:
            raise GovError(Code.USAGE, "--suggest changes nothing, so it takes no pins", "leave one of them out")
        return _suggest(options, context, txid)
    if not pins and not overrides and not unpinned:
        pins = _ask(options, open_transaction(context, txid).txid)
    request = ResolveRequest(txid, pins, overrides, unpinned, reason, timeout)
    return show_trial(options, context, try_again(context, request))


def _suggest(options: Options, context: Context, txid: str) -> int:
    from comfygov.cli.render.conflict_views import suggestion_lines
    from comfygov.ops.resolving import pinned_packages
    from comfygov.ops.suggesting import suggest

    result = suggest(context, txid)
    works = any(entry.works for entry in result.suggestions)
    error = None
    if not works:
        hint = f"gov tx abort {result.transaction.txid} (production is untouched)"
        for name in pinned_packages(result.transaction)[-1:]:
            hint = f"gov resolve {result.transaction.txid} --unpin {name}, or {hint}"
        error = GovError(Code.NO_SOLUTION, "none of what was tried gives a solution", hint)
    show(options, result, suggestion_lines(result), error=error)
    if error and not options.json:
        output.emit_error(error)
    return error.exit_code if error else 0


def _ask(options: Options, txid: str) -> tuple[str, ...]:
    """The pins that a person, or a pipe, writes; each is checked as it comes."""
    from comfygov.ops.resolving import exact_pin

    if options.json:
        raise GovError(Code.USAGE, "with --json nothing is asked", f"gov resolve {txid} --pin P==V")
    pins: list[str] = []
    while line := _next_line():
        try:
            pins.append(exact_pin(line))
        except GovError as error:
            if not (sys.stdin and sys.stdin.isatty()):
                raise
            output.say(f"{error.message}: {error.hint}")
    return tuple(pins)


def _next_line() -> str:
    """Empty at the end of what is written too (Ctrl-D), which `click.prompt` would take for Ctrl-C."""
    if sys.stdin is None:
        return ""
    asked = sys.stdin.isatty()
    if asked:
        output.say("package==version (empty line ends): ", end="")
    line = sys.stdin.readline()
    if asked and not line:
        output.say("")
    return line.strip()
