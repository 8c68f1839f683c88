"""`koboshi tasks`: look at the project's tasks and add to them."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from koboshi_tools import UsageError

from .context import echo_json, open_home, project_dir, table

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_FILE = click.option(
    "--file", "file", type=click.Path(path_type=Path), help="The task file, default tasks/train.jsonl of the project."
)
_SHOWN_PROMPT = 70


@click.group(invoke_without_command=True)
@click.pass_context
def tasks(context: click.Context) -> None:
    """Look at tasks, and make them.

    Example: koboshi tasks list -C my-shop
    """
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@tasks.command("list")
@click.option("--file", "file", type=click.Path(path_type=Path), help="One task file, default all of the project's.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Tasks shown of each file.")
@_JSON
def list_command(file: Path | None = None, limit: int = 20, as_json: bool = False) -> None:
    """List tasks by file; every file is checked whole.

    Example: koboshi tasks list --file tasks/dev.jsonl
    """
    from ..tasks import load_tasks

    paths = [file] if file else sorted(_tasks_folder().glob("*.jsonl"))
    loaded = [(path, load_tasks(path)) for path in paths]
    if as_json:
        echo_json([{"file": str(path), "tasks": [task.as_json() for task in found]} for path, found in loaded])
        return
    from ..text import plain

    rows = [
        (
            path.stem,
            plain(task.id),
            task.checker.kind if task.checker else "project",
            plain(task.prompt, width=_SHOWN_PROMPT),
        )
        for path, found in loaded
        for task in found[:limit]
    ]
    table(("file", "id", "checker", "prompt"), rows)
    click.echo("; ".join(f"{path.name}: {len(found)} tasks" for path, found in loaded) or "no task files", err=True)


@tasks.command("add")
@click.argument("line", metavar="JSON|-")
@_FILE
@_JSON
def add_command(line: str, file: Path | None, as_json: bool) -> None:
    """Check one task, or one a line from standard input with -, and append it to a file.

    Example: koboshi tasks add '{"id": "sum", "prompt": "2 + 2?", "checker": {"kind": "number", "answer": 4}}'
    """
    from ..task_making import append_tasks
    from ..tasks import parse_tasks

    found = parse_tasks(sys.stdin.read() if line == "-" else line, "the given tasks")
    path = file or _tasks_folder() / "train.jsonl"
    append_tasks(path, found)
    if as_json:
        echo_json({"file": str(path), "added": [task.id for task in found]})
    else:
        click.echo(f"Added {len(found)} to {path}.")


@tasks.command("from-runs")
@_FILE
@click.option("--checker", help="JSON of a checker for runs whose answer is neither a number nor one short line.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Runs looked at, newest first.")
@click.option("--dry-run", is_flag=True, help="Show what would be added.")
@_JSON
def from_runs_command(file: Path | None, checker: str | None, limit: int, dry_run: bool, as_json: bool) -> None:
    """Make tasks out of real runs that were labelled a success.

    Example: koboshi tasks from-runs --file tasks/dev.jsonl --dry-run
    """
    from ..task_making import append_tasks, tasks_from_runs
    from ..tasks import load_tasks

    path = file or _tasks_folder() / "train.jsonl"
    made = tasks_from_runs(_successes(limit), load_tasks(path) if path.exists() else (), checker=_checker(checker))
    if made.tasks and not dry_run:
        append_tasks(path, made.tasks)
    if as_json:
        left = {"known": made.known, "unclear": made.unclear}
        echo_json({"file": str(path), "dry_run": dry_run, "tasks": [task.as_json() for task in made.tasks], **left})
        return
    for task in made.tasks:
        click.echo(json.dumps(task.as_json()))
    click.echo(
        f"{'Would add' if dry_run else 'Added'} {len(made.tasks)} to {path}; {len(made.known)} were there, "
        f"{len(made.unclear)} need --checker.",
        err=True,
    )


def _tasks_folder() -> Path:
    from ..project import load_project

    root = project_dir()
    if root is None:
        raise UsageError(
            "there is no project here", hint="Pass -C DIR or --file FILE, or make one with: koboshi init DIR"
        )
    return load_project(root).tasks_folder


def _successes(limit: int) -> list[Any]:
    from ..project import load_project
    from ..records import OutcomeLabel, Purpose
    from ..store import RunFilter, Store

    root = project_dir()
    name = load_project(root).name if root else None
    wanted = RunFilter(purpose=Purpose.WORK, outcome=OutcomeLabel.SUCCESS, project=name, limit=limit)
    return list(Store.open(open_home().traces).runs(wanted))


def _checker(text: str | None) -> dict[str, Any] | None:
    from .. import strict_json
    from ..tasks import parse_task

    if text is None:
        return None
    try:
        value = strict_json.loads(text)
        parse_task(json.dumps({"id": "checker", "prompt": "checker", "checker": value}))
    except ValueError as error:
        raise UsageError(f"--checker: {error}") from error
    if not isinstance(value, dict):
        raise UsageError("--checker: a checker is an object")
    return value
