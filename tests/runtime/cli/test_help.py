"""Every command says in one line what it does, shows one example, and takes the project's folder."""

from collections.abc import Iterator

import click

from koboshi_runtime.cli import main, verbs


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main, info_name="koboshi")
    for name in verbs.VERBS:
        command = main.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {child}", found) for child, found in command.commands.items())


def _lacking(found: dict[str, bool]) -> list[str]:
    return [name for name, has in found.items() if not has]


def test_the_first_line_of_every_help_is_one_imperative_sentence() -> None:
    first = {name: (command.help or "").splitlines()[0] for name, command in _commands()}
    assert _lacking({name: line[:1].isupper() and len(line) <= 100 for name, line in first.items()}) == []


def test_every_help_shows_one_example() -> None:
    assert _lacking({name: (command.help or "").count("Example: ") == 1 for name, command in _commands()}) == []


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{name} {option.opts[0]}"
        for name, command in _commands()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def test_every_command_takes_the_projects_folder() -> None:
    taken = {name: any("-C" in option.opts for option in command.params) for name, command in _commands()}
    assert _lacking(taken) == []
