"""`gov completion`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, common, gov, show

_VARIABLE = "_GOV_COMPLETE"
_WHERE = {
    "bash": 'eval "$(gov completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(gov completion zsh)"  in ~/.zshrc',
    "fish": "gov completion fish | source  in ~/.config/fish/config.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(tuple(_WHERE)))
@common
def completion(options: Options, shell: str) -> None:
    """Print what makes SHELL complete commands, options and ids. For bash: eval "$(gov completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 (the three are click's own)
    made = kind(gov, {}, "gov", _VARIABLE)
    script = made.source_template % made.source_vars()
    show(options, {"shell": shell, "script": script, "use": _WHERE[shell]}, script.splitlines())
