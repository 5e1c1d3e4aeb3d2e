"""lithe completion: the script that teaches a shell to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lithe.cli.output import print_json

LINES = {
    "bash": 'eval "$(lithe completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(lithe completion zsh)"   in ~/.zshrc',
    "fish": "lithe completion fish | source   in ~/.config/fish/config.fish",
}


@click.command("completion", epilog="\b\nSwitch it on:\n  " + "\n  ".join(LINES.values()))
@click.argument("shell", type=click.Choice(list(LINES)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the script in it.")
def command(shell: str, as_json: bool) -> None:
    """Print the completion script for a shell."""
    text = script(shell)
    if as_json:
        print_json("completion", {"shell": shell, "script": text})
    else:
        click.echo(text)


def script(shell: str) -> str:
    """The completion script for bash, zsh or fish."""
    from lithe.cli.main import lithe

    completer = get_completion_class(shell)
    if completer is None:
        raise click.UsageError(f"no completion for {shell}")
    return completer(lithe, {}, "lithe", "_LITHE_COMPLETE").source()
