"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tools import output_schema, reference

from comfygov.cli.entry import COMMANDS, gov
from comfygov.errors import Code
from comfygov.versions import lockfile

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent


def test_the_cli_reference_is_fresh() -> None:
    assert (reference.DOCS / "04_cli_reference.md").read_text() == reference.cli_reference(), (
        "run: python -m tools.reference"
    )


def test_the_data_contracts_are_fresh() -> None:
    assert (reference.DOCS / "05_data_contracts.md").read_text() == reference.data_contracts(), (
        "run: python -m tools.reference"
    )


def test_the_schema_of_a_lock_is_fresh() -> None:
    for path in reference.SCHEMA_FILES:
        assert path.read_bytes() == lockfile.schema(), "run: python -m tools.reference"


def test_the_schema_of_what_commands_print_is_fresh_and_whole() -> None:
    assert reference.OUTPUT_SCHEMA.read_bytes() == output_schema.output_schema(), "run: python -m tools.reference"
    assert set(output_schema.RESULTS) == set(commands(gov, click.Context(gov, info_name="")))


def commands(group: click.Group, ctx: click.Context) -> Iterator[str]:
    """Every command below `group` by its words: `tx run`."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=ctx)
        if isinstance(command, click.Group):
            yield from commands(command, below)
        else:
            yield below.command_path.strip()


def test_every_error_code_has_its_cause_and_way_out() -> None:
    text = (ROOT / "docs" / "08_troubleshooting_and_limits.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
    assert sorted(rows) == sorted((code.text, str(code.exit_code)) for code in Code)


def test_every_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'^  "([a-z-]+)[>=]', project.split("dependencies = [")[1].split("]")[0], re.MULTILINE)
    reasons = (ROOT / "docs" / "06_development_workflow.md").read_text()
    assert listed
    assert [name for name in listed if f"`{name}`" not in reasons] == []


def test_every_command_that_a_message_or_document_names_exists() -> None:
    sources = [path for path in (ROOT / "src").rglob("*.py") if "standin" not in path.parts]
    for path in [*sources, *ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")]:
        for group, name in re.findall(r"\bgov (node|tx|snapshot|models|version)? ?([a-z]+)\b", path.read_text()):
            known = COMMANDS if not group else gov_group(group)
            assert name in known, f"{path.name}: gov {group} {name}"


def gov_group(name: str) -> set[str]:
    command = gov.get_command(click.Context(gov), name)
    assert isinstance(command, click.Group)
    return set(command.commands) | {"is", "and"}


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readme_says_the_same_in_every_language() -> None:
    def said(name: str) -> tuple[list[str], set[str]]:
        text = (ROOT / name).read_text()
        commands = [
            line.split(" #")[0].strip()
            for line in text.splitlines()
            if line.startswith("    ./bin") or "    gov " in line
        ]
        return commands, set(re.findall(r"\]\((?!README)([^)]+)\)", text))

    english = said("README.md")
    assert len(english[0]) > 10
    assert said("README.ru.md") == english
    assert said("README.zh-CN.md") == english
