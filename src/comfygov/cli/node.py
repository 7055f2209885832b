"""`gov node …`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, offer, open_context, show


@click.group()
@common
def node() -> None:
    """Custom node packs."""


@node.command()
@click.argument("source")
@click.option("--ref", help="Branch, tag or commit (default: the default branch).")
@click.option("--id", "node_id", help="The pack's id and folder (default: the repository's name).")
@common
def add(options: Options, source: str, ref: str | None, node_id: str | None) -> None:
    """Register the pack at SOURCE: a git URL, a directory, or ID[@VERSION] of the node registry.

    It is not loaded before its promote.
    """
    from comfygov.cli.render.views import added_lines
    from comfygov.ops.nodes import AddRequest
    from comfygov.ops.nodes import add as register

    result = register(open_context(options), AddRequest(source, ref, node_id))
    show(options, result, added_lines(result), findings=(*result.malformed, *result.rejected))


@node.command(name="list")
@common
def list_(options: Options) -> None:
    """All packs, and folders in custom_nodes that nobody manages."""
    from comfygov.cli.render.views import node_list_lines
    from comfygov.ops.nodes import list_nodes

    result = list_nodes(open_context(options))
    show(options, result, node_list_lines(result))


@node.command(name="show")
@click.argument("node_id", shell_complete=offer("packs"))
@common
def show_(options: Options, node_id: str) -> None:
    """Everything about one pack."""
    from comfygov.cli.render.views import node_detail_lines
    from comfygov.ops.nodes import show as read_node

    result = read_node(open_context(options), node_id)
    show(options, result, node_detail_lines(result))


@node.command()
@click.argument("node_id", shell_complete=offer("packs"))
@click.option("--purge-code", is_flag=True, help="Delete the folder too (your own files in it are kept aside).")
@click.option("--restart", is_flag=True, help="Stop a running ComfyUI for the change and start it again.")
@common
def remove(options: Options, node_id: str, purge_code: bool, restart: bool) -> None:
    """Take a pack, and the packages that only it needed, out of production."""
    from comfygov.cli.render.views import removed_lines
    from comfygov.ops.nodes import remove as take_out

    result = take_out(open_context(options), node_id, purge_code=purge_code, restart=restart)
    show(options, result, removed_lines(result))


@node.command()
@click.argument("node_id", shell_complete=offer("packs"))
@common
def enable(options: Options, node_id: str) -> None:
    """Load a promoted pack again."""
    _toggle(options, node_id, enable=True)


@node.command()
@click.argument("node_id", shell_complete=offer("packs"))
@common
def disable(options: Options, node_id: str) -> None:
    """Do not load a pack; its packages stay."""
    _toggle(options, node_id, enable=False)


def _toggle(options: Options, node_id: str, *, enable: bool) -> None:
    from comfygov.ops.nodes import toggle

    result = toggle(open_context(options), node_id, enable=enable)
    word = "enabled" if enable else "disabled"
    line = f"{node_id} is {word}" if result.changed else f"{node_id} was {word} already"
    show(options, result, [f"{line} (snapshot {result.snapshot})"])
