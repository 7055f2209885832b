"""The lazy command tree, the options that every command has, and the way from errors to exit codes."""

from __future__ import annotations

import functools
import shlex
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from comfygov import __version__
from comfygov.cli.render import output
from comfygov.errors import Code, GovError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from comfygov.ops.context import Context
    from comfygov.ops.known_names import Kind

# Command -> (module of its group, one line of help). `gov --help` imports none of the modules.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "The whole life of a change on an embedded sample, in a minute."),
    "init": ("init", "Make a governed home with ComfyUI, or check and repair one."),
    "status": ("state", "What production is, whether it is healthy, what waits."),
    "doctor": ("doctor", "What this machine can do, and how to get the rest."),
    "sync": ("state", "Repair production from head, by building anew."),
    "verify": ("care", "Compare the world with head: environment, code, files, rights."),
    "gc": ("care", "Remove what no snapshot needs, and what killed commands left."),
    "audit": ("care", "What was changed, when, by whom; --check finds tampering."),
    "run": ("run", "Start ComfyUI as head says."),
    "stop": ("run", "Stop the ComfyUI of this home and all that it started."),
    "logs": ("run", "The end of ComfyUI's log, or of a trial's."),
    "node": ("node", "Custom node packs: add, list, show, remove, enable, disable."),
    "tx": ("tx", "Transactions: run a trial, inspect, promote, abort."),
    "resolve": ("resolve", "Make a change fit that has no solution: pins, forced versions, suggestions."),
    "models": ("models", "Model files: verify, add, list, scan, needed, gc."),
    "version": ("version", "Versions: create, list, show, diff, clone, verify, bundle, remove."),
    "handler": ("handler", "A version that answers jobs: run one, serve them, check, health."),
    "image": ("image", "Container images: context, build, verify, deploy-files."),
    "snapshot": ("snapshot", "Snapshots: list, inspect, diff, create."),
    "rollback": ("snapshot", "Make production what a snapshot says, in under a second."),
    "bisect": ("bisect", "Find the change that broke something, on copies of past states."),
    "outdated": ("outdated", "What could be updated: packs, ComfyUI, packages."),
    "completion": ("completion", "What makes bash, zsh or fish complete commands and ids."),
}


class LazyGroup(click.Group):
    """Commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"comfygov.cli.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise _no_such_command(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _no_such_command(name: str) -> GovError:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean `gov {near[0]}`?" if near else "gov --help"
    return GovError(Code.USAGE, f"there is no command `{name}`", hint)


class Options:
    """What --home, --json, --verbose and -q say; they may stand before or after the command."""

    home: str | None = None
    json: bool = False
    verbose: bool = False
    quiet: bool = False


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that everything takes; they are collected in one Options object."""

    @click.option("--home", metavar="DIR", help="The governed home ($COMFY_HOME, else found from here).")
    @click.option("--json", "as_json", is_flag=True, help="One JSON envelope on standard output.")
    @click.option("--verbose", is_flag=True, help="Show what happens inside, tracebacks too.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress, only the result.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(ctx: click.Context, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (click's own shape)
        home, as_json, verbose, quiet = (kwargs.pop(name) for name in ("home", "as_json", "verbose", "quiet"))
        options = ctx.ensure_object(Options)
        options.home = home or options.home
        options.json |= as_json
        options.verbose |= verbose
        options.quiet |= quiet
        return (
            command(options, *args, **kwargs) if not isinstance(ctx.command, click.Group) else command(*args, **kwargs)
        )

    return wrapped


def progress(options: Options) -> output.TerminalProgress:
    return output.TerminalProgress(quiet=options.quiet or options.json)


def command_line() -> str:
    """This command as it is written into records: without secrets."""
    from comfygov.ops.hiding import hidden

    return hidden(shlex.join(["gov", *sys.argv[1:]]))


def reason_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--reason TEXT`, which is recorded without secrets."""

    def without_secrets(_ctx: click.Context, _parameter: click.Parameter, text: str) -> str:
        from comfygov.ops.context import hidden

        return hidden(text) if text else text

    return click.option("--reason", default="", callback=without_secrets, help="Why; it is recorded.")(command)


def timeout_option(text: str) -> Callable[..., Any]:
    return click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help=text)


def offer(kind: Kind) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What an argument offers after TAB: the ids of that kind in the home that the command is about."""

    def names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        from comfygov.ops.known_names import known_names

        above: click.Context | None = ctx
        home: str | None = None
        while above is not None and not home:
            home, above = above.params.get("home"), above.parent
        return [name for name in known_names(kind, home) if name.startswith(incomplete)]

    return names


def lines_option(default: int) -> Callable[..., Any]:
    text = "How many of the last lines; 0 shows all."
    return click.option("-n", "--lines", type=click.IntRange(min=0), default=default, show_default=True, help=text)


def open_context(options: Options) -> Context:
    from comfygov.ops.context import open_home

    return open_home(options.home, command_line(), progress(options))


def show(
    options: Options,
    data: object,
    lines: Iterable[str],
    *,
    findings: Sequence[object] = (),
    error: GovError | None = None,
) -> None:
    """Hand a result to the one renderer that the person asked for; `error` says why it is not what was wanted."""
    if options.json:
        ctx = click.get_current_context()
        name = ctx.command_path.removeprefix("gov ")
        output.emit_envelope(name, data, ok=error is None, findings=findings, error=error)
    else:
        output.emit_lines(lines)


def command_name(arguments: Sequence[str]) -> str:
    """The command that `arguments` name, for the envelope of one that did not get as far as its result."""
    words = list(arguments)
    for position, word in enumerate(words):
        if word in COMMANDS and (position == 0 or words[position - 1] != "--home"):
            is_group = word in ("node", "tx", "snapshot", "bisect", "models", "version", "handler", "image")
            below = next((other for other in words[position + 1 :] if not other.startswith("-")), "")
            return f"{word} {below}".strip() if is_group else word
    return "gov"


def _say_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    import platform
    from importlib import metadata

    parts = {"gov": __version__, "uv": metadata.version("uv"), "python": platform.python_version()}
    output.emit_lines([" ".join(f"{name} {version}" for name, version in parts.items())])
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Versions of gov, uv, Python.",
)
@common
def gov() -> None:
    """Change control for ComfyUI: try every change on a full copy, commit it in one step, undo it in a second.

    \b
    Start here:  gov demo        or:  gov init --path DIR
    A change:    gov node add URL, gov tx run ID, gov tx inspect TX, gov tx promote TX
    The way back: gov snapshot list, gov rollback ID
    """


def run(arguments: list[str]) -> int:
    """Run `gov` and return its exit code; whatever happens, --json gets its envelope."""
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    name = command_name(arguments)
    output.accept_any_text()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        result = gov.main(args=arguments, prog_name="gov", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the one place where errors end)
        return _fail(as_known(error, name), name, as_json=as_json, show_traceback="--verbose" in arguments)
    return result if isinstance(result, int) else 0


def _fail(error: GovError, name: str, *, as_json: bool, show_traceback: bool) -> int:
    from comfygov.ops.context import hidden

    if show_traceback or error.code is Code.INTERNAL:
        import traceback

        output.say(hidden(traceback.format_exc()))
    error = GovError(error.code, hidden(error.message), hidden(error.hint), tuple(map(hidden, error.details)))
    try:
        if as_json:
            output.emit_envelope(name, None, ok=False, error=error)
            return error.exit_code
    except GovError as unsaid:
        error = unsaid
    output.emit_error(error)
    return error.exit_code


def as_known(error: BaseException, name: str = "gov") -> GovError:
    """Every exception as the one type of error; `name` is the command, which click does not always say."""
    if isinstance(error, GovError):
        return error
    if isinstance(error.__cause__, KeyboardInterrupt):
        return as_known(error.__cause__)  # during an import Python wraps it
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        output.say(error.ctx.get_help())
        return GovError(Code.USAGE, "a command is missing", "one of those above")
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else " ".join(dict.fromkeys(("gov", name)))
        return GovError(Code.USAGE, error.format_message().rstrip("."), f"{path} --help")
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return GovError(Code.INTERRUPTED, "interrupted", "the next command finishes or undoes what was under way")
    if isinstance(error, BrokenPipeError):
        return GovError(Code.TOOL_FAILED, "standard output was closed")
    if isinstance(error, OSError):
        from comfygov.ops.context import explain_os_error

        return explain_os_error(error)
    return GovError(
        Code.INTERNAL,
        f"comfygov made a mistake: {type(error).__name__}: {error}",
        "please report this with the text above",
    )
