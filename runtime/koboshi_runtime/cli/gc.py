"""`koboshi gc`: keep the home within its disk budget."""

from typing import TYPE_CHECKING

import click

from .context import echo_json, load_config_here, open_home, progress, table

if TYPE_CHECKING:
    from ..house.gc import Swept


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@click.option("--budget", type=click.FloatRange(0), metavar="GB", help="Default [disk] budget_gb.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(dry_run: bool, budget: float | None, as_json: bool) -> None:
    """Delete what is cheapest to make again until the home fits its budget.

    The current and the previous model never go, nor what a person did or judged.

    Example: koboshi gc --dry-run
    """
    from ..house.gc import sweep

    disk = load_config_here({"disk.budget_gb": budget}).settings.disk
    swept = sweep(open_home(), budget_bytes=round(disk.budget_gb * 1e9), keep_days=disk.keep_days, dry_run=dry_run)
    if as_json:
        sums = {"freed_bytes": swept.freed_bytes, "fits": swept.fits, "dry_run": dry_run}
        echo_json({**swept.model_dump(mode="json"), **sums})
        return
    table(("what", "where", "MB", "goes"), [_row(each.what, each.path, each.bytes, each.goes) for each in swept.items])
    for line in _told(swept, dry_run):
        progress(line)


def _row(what: str, path: str, size: int, goes: bool) -> tuple[str, ...]:
    return what, path, f"{size / 1e6:.1f}", "yes" if goes else "no"


def _told(swept: "Swept", dry_run: bool) -> list[str]:
    parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in swept.parts.items())
    before, freed = swept.before_bytes / 1e9, swept.freed_bytes / 1e9
    would = "would be freed" if dry_run else "freed"
    lines = [
        f"MB by part: {parts}",
        f"{before:.2f} GB of a budget of {swept.budget_bytes / 1e9:.2f} GB, {freed:.2f} GB {would}",
    ]
    if swept.training:
        lines.append("a training runs: its files, models and datasets were not looked at")
    if not swept.fits:
        lines.append("it is over the budget still: what is left is never deleted; raise [disk] budget_gb, or back up")
    return lines
