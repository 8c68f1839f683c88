"""The program `koboshi`: finds the verb, runs it, and turns every error into a message, a hint and an exit code.

Promises: `--help` imports click and the standard library only; results go to stdout, errors to stderr, as one JSON
object there if `--json` was given; the exit code is 0, 1 failed, 2 wrong usage, 3 refused, 130 interrupted. What
is neither click's nor a `KoboshiError` is a bug and keeps its traceback.
"""

import atexit
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from ..telemetry import force_off
from . import verbs

PLACE = "koboshi.project"
_INTERRUPTED = 130
# Objects made before a collection looks at the young ones; Python's own 700 is for small programs.
_GC_THRESHOLD = 50_000
# What a noun does when it is given alone; the first that it has.
_BARE = ("list", "show", "queue", "check", "status")


def _keep_place(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.meta[PLACE] = value


def place_option() -> click.Option:
    """Return the option `-C DIR`, which every verb takes; `context.project_dir` reads it."""
    kind = click.Path(exists=True, file_okay=False, path_type=Path)
    text = "The project's folder, default the nearest parent with a koboshi.toml."
    return click.Option(
        ["-C", "project_folder"], type=kind, metavar="DIR", help=text, expose_value=False, callback=_keep_place
    )


class Root(click.Group):
    """A group whose verbs are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every verb, ours first."""
        return [*verbs.VERBS, *sorted(verbs.plugged())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb."""
        found = verbs.load(cmd_name)
        if found is not None:
            _add_place(found)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the verbs and flags that begin with `incomplete`, importing none."""
        named = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        flags = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=verbs.help_of(name)) for name in named), *flags]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs with their help, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verbs.help_of(name)) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; a noun given alone lists."""
        if ctx.resilient_parsing:
            # The shell asks what could follow: a noun that was not finished is no error, and lists nothing.
            return super().resolve_command(ctx, args)
        if args[0] not in (known := self.list_commands(ctx)) and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=known, ctx=ctx)
        name, command, rest = super().resolve_command(ctx, args)
        # A word that is no verb of the noun was meant as one.
        alone = not rest or rest[0].startswith("-")
        if isinstance(command, click.Group) and alone and not {"--help", *command.commands} & set(rest):
            rest = [*[verb for verb in _BARE if verb in command.commands][:1], *rest]
        return name, command, rest

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run the command line and leave with its exit code."""
        force_off()
        _collect_less()
        given = list(sys.argv[1:] if args is None else args)
        extra["prog_name"], extra["standalone_mode"] = "koboshi", False
        sys.exit(self._answer(given, extra))

    def _answer(self, given: list[str], extra: dict[str, Any]) -> int:
        as_json = "--json" in given
        try:
            done = super().main(args=given, **extra)
        except (click.Abort, KeyboardInterrupt):
            return _report("interrupted", None, _INTERRUPTED, as_json)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:
            return _report(error.format_message(), _usage_hint(error), error.exit_code, as_json)
        except ModuleNotFoundError as error:
            return _report_missing(error, as_json)
        except Exception as error:
            # Imported here because it brings pydantic, which the help does not need.
            from koboshi_tools import KoboshiError

            if not isinstance(error, KoboshiError):
                raise
            return _report(str(error), error.hint, error.exit_code, as_json)
        return done if type(done) is int else 0


def _collect_less() -> None:
    """Spare collections that find nothing: a fifth of the time of large imports, and third of a second at the exit."""
    gc.set_threshold(_GC_THRESHOLD)
    atexit.register(gc.freeze)


def _add_place(command: click.Command) -> None:
    if not any("-C" in parameter.opts for parameter in command.params):
        command.params.append(place_option())
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        _add_place(child)


def _usage_hint(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"See: {context.command_path} --help" if context else None


def _report_missing(error: ModuleNotFoundError, as_json: bool) -> int:
    from .missing import extra_with

    extra = extra_with(error.name)
    if extra is None:
        raise error
    message = f"this needs the package {(error.name or '').partition('.')[0]!r}, which is not installed"
    return _report(message, f"pip install 'koboshi[{extra}]'", 1, as_json)


def _report(message: str, hint: str | None, exit_code: int, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": message, "hint": hint, "exit_code": exit_code}), err=True)
        return exit_code
    from ..text import plain

    click.echo(f"error: {plain(message, keep_lines=True)}", err=True)
    if hint:
        click.echo(f"hint: {plain(hint, keep_lines=True)}", err=True)
    return exit_code


@click.group(cls=Root, invoke_without_command=True, params=[place_option()])
@click.version_option(package_name="koboshi", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Run agents on this machine, and let them learn from what went wrong.

    Example: koboshi run "How much is 17 * 23?"
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
