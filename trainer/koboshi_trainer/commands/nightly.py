"""`koboshi nightly`: one night from what runs did to a model that is live or refused, and its report in the morning."""

from typing import TYPE_CHECKING

import click

from koboshi_runtime.cli.context import echo_json, load_config_here, open_home, progress
from koboshi_tools import KoboshiError, RefusedError

if TYPE_CHECKING:
    from koboshi_runtime.home import Home

    from ..morning import Morning
    from ..rollouts import RolloutProgress

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ROLLOUTS_TOLD = 50


@click.group()
def nightly() -> None:
    """Train at night, prove the result, and tell in the morning.

    Example: koboshi nightly status
    """


@nightly.command()
@_JSON
def run(as_json: bool) -> None:
    """Walk one night: select, build, train, export, parity, gate, swap, report.

    A night that was cut off goes on where it stopped. The exit code is 0 also where there was nothing to do, 3 where
    the candidate was refused, 1 where the night failed or another one is at work.

    Example: koboshi nightly run
    """
    from ..night import NightPlan, run_night
    from .train_progress import Teller
    from .training import plan_of, stop_at_once, workshop_here

    with workshop_here({}) as workshop:
        settings = workshop.settings
        plan = NightPlan(plan_of(settings.train), settings.nightly, Teller().listener, _tell_rollouts)
        stop_at_once()
        morning = run_night(workshop, plan)
        home = workshop.home
    _print(home, morning, as_json=as_json)
    _leave(morning)


@nightly.command()
@_JSON
def status(as_json: bool) -> None:
    """Say whether a night is at work, what the last one came to, and what the next one lacks.

    Example: koboshi nightly status
    """
    from koboshi_runtime.store import Store
    from koboshi_runtime.text import plain

    from ..morning_files import read_last
    from ..night_place import at_work
    from ..readiness import readiness

    home = open_home()
    store = Store.open(home.traces)
    ready = readiness(store, load_config_here().settings.nightly)
    store.close()
    working, last = at_work(home), read_last(home)
    if as_json:
        counts = ready.model_dump(mode="json") | {"missing": ready.missing, "text": ready.text}
        described = last and {"headline": last[1].headline, "ended_at": last[1].ended_at, "report": str(last[0])}
        echo_json({"labels": counts, "at_work": working and working.model_dump(mode="json"), "last": described})
        return
    click.echo(ready.text)
    if working is not None:
        click.echo(plain(f"at work: {working.stage}, since {working.since}, process {working.pid}"))
    if last is not None:
        click.echo(plain(f"last night ({last[1].ended_at[:10]}): {last[1].headline}"))
        click.echo(plain(f"its report: {last[0]}"))


@nightly.command()
@click.argument("night", required=False)
@_JSON
def report(night: str | None, as_json: bool) -> None:
    """Show the report of the last night, or of the one whose id is given.

    Example: koboshi nightly report
    """
    from ..morning_files import read_morning

    home = open_home()
    _, morning = read_morning(home, night)
    _print(home, morning, as_json=as_json)


def _tell_rollouts(found: "RolloutProgress") -> None:
    if found.done % _ROLLOUTS_TOLD == 0 or found.done == found.wanted:
        progress(f"  tried: {found.done} of {found.wanted} runs")


def _print(home: "Home", morning: "Morning", *, as_json: bool) -> None:
    from rich.console import Console

    from ..morning_files import report_path
    from ..morning_text import print_morning

    if as_json:
        echo_json({"headline": morning.headline, **morning.model_dump(mode="json")})
        return
    print_morning(morning, Console())
    progress(f"The report is in {report_path(home, morning)}.")


def _leave(morning: "Morning") -> None:
    from ..morning import Kind

    reasons = "; ".join(morning.reasons)
    if morning.kind is Kind.REFUSED:
        raise RefusedError(f"{morning.candidate or 'the candidate'} was refused: {reasons}", hint=morning.hint)
    if morning.kind is Kind.FAILED:
        raise KoboshiError(f"the night failed: {reasons}", hint=morning.hint)
