"""`koboshi db`: where the trace store lies, and whether it is sound."""

import click

from koboshi_runtime.cli.context import echo_json, open_home


@click.group(invoke_without_command=True)
@click.pass_context
def db(context: click.Context) -> None:
    """Find and check the trace store.

    Example: koboshi db check
    """
    if context.invoked_subcommand is None:
        context.invoke(path)


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def path(as_json: bool) -> None:
    """Print the path of the database.

    Example: sqlite3 -readonly "$(koboshi db path)"
    """
    traces = str(open_home().traces)
    echo_json({"path": traces}) if as_json else click.echo(traces)


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    """Check pages, indexes, keys and schema, and count calls in doubt.

    Example: koboshi db check --json
    """
    from koboshi_runtime.store import Store

    report = Store.open(open_home().traces).check()
    if as_json:
        echo_json(report.model_dump(mode="json"))
    else:
        state = "ok" if report.ok else "damaged"
        click.echo(f"{state}: schema {report.schema_version}, {report.file_bytes} bytes, log {report.log_bytes} bytes")
        if report.ok:
            click.echo(f"{report.runs} runs, {report.steps} steps, {report.in_doubt} calls in doubt")
        for problem in report.problems:
            click.echo(f"  {problem}")
    context.exit(0 if report.ok else 1)
