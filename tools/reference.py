"""Writes docs/04_cli_reference.md and docs/05_data_contracts.md from the code: `python -m tools.reference`.

A test runs the same functions and fails when the files are not what they give.
"""

from __future__ import annotations

import enum
import inspect
import typing
from pathlib import Path

import click
import msgspec

from comfygov.cli.entry import COMMANDS, gov
from comfygov.envs.condition import Known
from comfygov.envs.generation import Seal
from comfygov.errors import Code
from comfygov.model import config, delivery, state, tx
from comfygov.model.image import CodeManifest, ImageRecord
from comfygov.model.version import VersionLock
from comfygov.models.part import PartState
from comfygov.models.spec import RawEntry
from comfygov.versions import lockfile
from tools.output_schema import output_schema

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA_FILES = (
    DOCS / "version-lock.schema.json",
    DOCS.parent / "src" / "comfygov" / "versions" / "version-lock.schema.json",
)
OUTPUT_SCHEMA = DOCS / "json-output.schema.json"

FILES: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("config.toml", config.Config),
    ("state/head.json", state.Head),
    ("state/plugins.json, snapshots/ID/plugins.json", state.Registry),
    ("snapshots/ID/meta.json", state.SnapshotMeta),
    ("snapshots/ID/baseline.json", state.Baseline),
    ("state/transactions/TXID.json", tx.Transaction),
    ("state/conflicts/TXID.json", tx.ConflictReport),
    ("state/audit.jsonl (a line)", state.AuditEntry),
    ("state/run.json", state.RunRecord),
    ("state/materialising.json", state.Pending),
    ("state/home.lock", state.LockHolder),
    ("state/environments.json (of each generation)", Known),
    (".venvs/ID/comfygov-generation.json", Seal),
    ("lockfiles/comfy-NAME.lock.json", VersionLock),
    ("image.json (in an image)", ImageRecord),
    ("code.json (in an image)", CodeManifest),
    ("models/spec.yml (an entry of its list `models`)", RawEntry),
    ("models/partial/KEY.json in the cache", PartState),
    ("runtime.json (what a handler starts from)", delivery.Runtime),
)


def cli_reference() -> str:
    """Every command with its arguments and options, as click knows them."""
    parts = [
        "# The command line",
        "",
        "Written by `python -m tools.reference` from the commands themselves.",
        "",
        "Everything takes `--home DIR`, `--json`, `--verbose`, `-q`, before or after the command. Data goes to",
        "standard output, everything else to standard error. `--json` prints one envelope, whatever happens:",
        '`{"schema":"comfygov/1","command","ok","data","findings":[],"error":{"code","message","hint","details"}}`.',
        "Its schema, with the `data` of each command: [json-output.schema.json](json-output.schema.json).",
        "",
        *_exit_codes(),
    ]
    root = click.Context(gov, info_name="gov")
    for name in COMMANDS:
        command = gov.get_command(root, name)
        parts += _command_text(command, click.Context(command, info_name=name, parent=root)) if command else []
    return "\n".join(parts).rstrip() + "\n"


def _exit_codes() -> list[str]:
    by_exit: dict[int, list[str]] = {}
    for code in Code:
        by_exit.setdefault(code.exit_code, []).append(f"`{code.text}`")
    rows = [f"| {number} | {', '.join(names)} |" for number, names in sorted(by_exit.items())]
    return ["| exit | error codes |", "|---|---|", "| 0 | done |", *rows]


def _command_text(command: click.Command, ctx: click.Context) -> list[str]:
    if isinstance(command, click.Group):
        children = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
        return [
            line
            for name, child in children
            if child is not None
            for line in _command_text(child, click.Context(child, info_name=name, parent=ctx))
        ]
    usage = command.get_usage(ctx).removeprefix("Usage: ")
    lines = [
        "",
        f"## {ctx.command_path}",
        "",
        f"    {' '.join(usage.split())}",
        "",
        inspect.cleandoc(command.help or ""),
    ]
    rows = [record for param in command.params if (record := _row(param, ctx))]
    return [*lines, "", "| option | meaning |", "|---|---|", *rows] if rows else lines


def _row(param: click.Parameter, ctx: click.Context) -> str | None:
    common = {"home", "as_json", "verbose", "quiet"}
    if not isinstance(param, click.Option) or param.name in common:
        return None
    record = param.get_help_record(ctx)
    return f"| `{record[0]}` | {record[1]} |" if record else None


def data_contracts() -> str:
    """Every stored file, field by field."""
    seen: dict[str, type[msgspec.Struct]] = {}
    parts = [
        "# Stored files",
        "",
        "Written by `python -m tools.reference` from the data types. Fields are only ever added; readers ignore",
        "fields that they do not know, and refuse a file whose `schema_version` is newer than theirs. The layout of",
        "a home is in `02_architecture_and_mechanisms.md`.",
    ]
    for name, kind in FILES:
        parts += ["", f"## {name}", "", *_fields(kind, seen)]
    parts += ["", "# Types"]
    done = {kind.__name__ for _, kind in FILES}
    while waiting := [kind for name, kind in seen.items() if name not in done]:
        kind = waiting[0]
        done.add(kind.__name__)
        parts += ["", f"## {kind.__name__}", "", *_fields(kind, seen)]
    return "\n".join(parts).rstrip() + "\n"


def _fields(kind: type[msgspec.Struct], seen: dict[str, type[msgspec.Struct]]) -> list[str]:
    hints = typing.get_type_hints(kind)
    text = inspect.cleandoc(kind.__doc__ or "").split("\n\n") if kind.__doc__ else []
    rows = [
        f"| `{field.name}` | {_type_text(hints[field.name], seen)} | {_default(field)} |"
        for field in msgspec.structs.fields(kind)
    ]
    return [*("\n".join(text).splitlines()), "", "| field | type | default |", "|---|---|---|", *rows]


def _type_text(kind: object, seen: dict[str, type[msgspec.Struct]]) -> str:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        seen.setdefault(kind.__name__, kind)
        return f"{kind.__name__}"
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return " \\| ".join(f'`"{value}"`' for value in arguments)
    if typing.get_origin(kind) is tuple:
        return f"list of {_type_text(arguments[0], seen)}"
    if typing.get_origin(kind) is dict:
        return f"map of {_type_text(arguments[0], seen)} to {_type_text(arguments[1], seen)}"
    if arguments:
        return " \\| ".join(_type_text(argument, seen) for argument in arguments)
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
        return f"`{msgspec.json.encode(value.value if isinstance(value, enum.Enum) else value).decode()}`"
    return "required" if field.required else "-"


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    (DOCS / "04_cli_reference.md").write_text(cli_reference(), encoding="utf-8")
    (DOCS / "05_data_contracts.md").write_text(data_contracts(), encoding="utf-8")
    OUTPUT_SCHEMA.write_bytes(output_schema())
    for path in SCHEMA_FILES:
        path.write_bytes(lockfile.schema())


if __name__ == "__main__":
    main()
