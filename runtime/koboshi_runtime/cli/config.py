"""`koboshi config`: what holds here, and why."""

import click

from .context import echo_json, load_config_here, table


@click.group()
def config() -> None:
    """Show the configuration and where it comes from.

    Example: koboshi config show --origin
    """


@config.command()
@click.option("--origin", is_flag=True, help="Say which layer gave each value.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(origin: bool, as_json: bool) -> None:
    """Print every setting with its value.

    Example: koboshi config show --origin
    """
    from ..config import flat

    found = load_config_here()
    values = flat(found.settings.model_dump(mode="json"))
    if as_json:
        echo_json(
            {key: {"value": value, "origin": found.origins[key]} if origin else value for key, value in values.items()}
        )
        return
    columns = ("key", "value", "origin") if origin else ("key", "value")
    table(columns, [(key, str(value), found.origins[key])[: len(columns)] for key, value in values.items()])
