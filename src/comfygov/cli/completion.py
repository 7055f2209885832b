"""`gov completion`."""

from __future__ import annotations

import click
import msgspec

from comfygov.cli.entry import Options, common, gov, show

_VARIABLE = "_GOV_COMPLETE"
_WHERE = {
    "bash": 'eval "$(gov completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(gov completion zsh)"  in ~/.zshrc',
    "fish": "gov completion fish | source  in ~/.config/fish/config.fish",
}


class Completion(msgspec.Struct, frozen=True):
    """`script` is what the shell runs; `use` is how to have it run at every start."""

    shell: str
    script: str
    use: str


@click.command()
@click.argument("shell", type=click.Choice(tuple(_WHERE)))
@common
def completion(options: Options, shell: str) -> None:
    """Print what makes SHELL complete commands, options and ids. For bash: eval "$(gov completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 (the three are click's own)
    made = kind(gov, {}, "gov", _VARIABLE)
    result = Completion(shell, made.source_template % made.source_vars(), _WHERE[shell])
    show(options, result, result.script.splitlines())
