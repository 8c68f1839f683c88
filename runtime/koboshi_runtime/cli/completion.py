"""`koboshi completion`: what a shell has to read so that the Tab key completes verbs, flags, runs and models."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_KOBOSHI_COMPLETE"
"""The environment variable by which the shell's function asks what could follow."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes koboshi's verbs, flags, runs and models in a shell.

    In bash and zsh, add the line of the example to ~/.bashrc or ~/.zshrc, with the name of the shell.

    In fish, once: koboshi completion fish > ~/.config/fish/completions/koboshi.fish

    Example: eval "$(koboshi completion bash)"
    """
    found = get_completion_class(shell)
    assert found is not None, f"click completes {shell}"
    click.echo(found(click.get_current_context().find_root().command, {}, "koboshi", VARIABLE).source(), nl=False)
