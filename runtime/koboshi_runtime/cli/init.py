"""`koboshi init`: make a project."""

from pathlib import Path

import click

from .context import echo_json, open_home


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--from", "pack", metavar="PACK", help="Start from a demo pack: shop or arithmetic.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the pack's tasks and data.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(folder: Path, pack: str | None, seed: int, as_json: bool) -> None:
    """Make a project in a new or empty folder.

    Example: koboshi init my-shop --from shop
    """
    from ..templates_init import init_project
    from ..trust import pin_new

    home = open_home()
    made = init_project(folder, pack, seed=seed)
    pin_new(home, made.root)
    if as_json:
        echo_json({"root": str(made.root), "tasks": made.tasks})
        return
    click.echo(f"Made {made.root} with koboshi.toml, policies/, tasks/, checks/, tools/ and workspace/.")
    click.echo("Tasks: " + ", ".join(f"{name} {count}" for name, count in made.tasks.items()) + ".")
    click.echo(f"Next: koboshi run -C {folder} --tasks {folder / 'tasks' / next(iter(made.tasks))}.jsonl")
