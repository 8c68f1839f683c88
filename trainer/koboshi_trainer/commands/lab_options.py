"""What the commands of `koboshi lab` share: where data lies, and how an experiment is opened."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from koboshi_runtime.cli.context import load_config_here, open_home

if TYPE_CHECKING:
    from ..lab.run import Lab


def _data(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    found = {}
    for value in values:
        name, mark, folder = value.partition("=")
        if not mark or not name:
            raise click.BadParameter(f"{value!r} is not NAME=DIR")
        if not Path(folder).is_dir():
            raise click.BadParameter(f"{folder} is no folder")
        found[name] = Path(folder).resolve()
    return found


data_option = click.option(
    "--data", multiple=True, metavar="NAME=DIR", callback=_data, help="A folder of data; may be repeated."
)


def open_lab(file: Path, data: dict[str, Path], results: Path | None, work: Path | None) -> "Lab":
    """Return the experiment in a file, opened. Raises UsageError where the file or its data is wrong."""
    from ..lab.file import read_experiment
    from ..lab.place import LabPlace
    from ..lab.recipe import Recipe
    from ..lab.run import Lab
    from ..lab.sources import Data

    experiment, home = read_experiment(file), open_home()
    folder = (work or home.runs / "lab" / experiment.name).resolve()
    settings = load_config_here().settings
    place = LabPlace.open(experiment, Data(file.resolve().parent, data), folder, users_home=home, settings=settings)
    return Lab(Recipe(place), results or results_of(file))


def results_of(file: Path) -> Path:
    """Return where the results of an experiment file lie: beside it, in a folder of its name."""
    return file.with_suffix("")
