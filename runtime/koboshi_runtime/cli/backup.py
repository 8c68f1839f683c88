"""`koboshi backup` and `restore`: copies of the home whose every file is named by its hash."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .context import echo_json, load_config_here, open_home, progress

if TYPE_CHECKING:
    from ..house.backup import BackupManifest


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[FOLDER]")
@click.option("--verify", "verified", is_flag=True, help="Read the backup in FOLDER whole instead of making one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup(folder: Path | None, verified: bool, as_json: bool) -> None:
    """Copy the home to a folder, while agents work.

    Store, models, datasets, training runs, reports and trust are copied; the default folder is named by the time.

    Example: koboshi backup /mnt/disk/koboshi-monday
    """
    from koboshi_tools import UsageError

    from ..house.backup import back_up, default_folder, verify

    if verified:
        if folder is None:
            raise UsageError("--verify needs the folder of a backup", hint="Example: koboshi backup --verify FOLDER")
        manifest = verify(folder)
    else:
        folder = folder or default_folder()
        manifest = back_up(open_home(), folder)
    if as_json:
        echo_json({"path": str(folder.absolute()), **manifest.model_dump(mode="json")})
        return
    progress(f"{_size(manifest)}, made {manifest.created_at}")
    click.echo(folder)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(folder: Path, as_json: bool) -> None:
    """Make the home of a backup; a home that holds anything is left as it is.

    Example: KOBOSHI_HOME=$HOME/koboshi-again koboshi restore /mnt/disk/koboshi-monday
    """
    from ..home import Home, home_path
    from ..house.backup import restore as restore_home

    load_config_here()
    home = Home(home_path())
    manifest = restore_home(folder, home)
    if as_json:
        echo_json({"home": str(home.root), "from": str(folder.absolute()), **manifest.model_dump(mode="json")})
        return
    progress(f"{_size(manifest)}, each with the hash that it had")
    click.echo(home.root)


def _size(manifest: "BackupManifest") -> str:
    return f"{len(manifest.files)} file{'s' * (len(manifest.files) != 1)}, {manifest.bytes / 1e6:.1f} MB"
