"""`koboshi nightly`: one night from what runs did to a model that is live or refused, and its report in the morning."""

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koboshi_runtime.cli.context import echo_json, load_config_here, open_home, progress, project_dir
from koboshi_tools import KoboshiError, RefusedError, UsageError

if TYPE_CHECKING:
    from koboshi_runtime.home import Home

    from ..morning.report import Morning
    from ..night.timers import Kind, Timer
    from ..rollouts import RolloutProgress

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_KIND = click.option(
    "--kind",
    type=click.Choice(["auto", "systemd", "cron"]),
    default="auto",
    show_default=True,
    help="Units of systemd's user manager, or a line of cron's table.",
)
_ROLLOUTS_TOLD = 50


@click.group()
def nightly() -> None:
    """Train at night, prove the result, and tell in the morning.

    Example: koboshi nightly status
    """


@nightly.command()
@click.option(
    "--when-idle", is_flag=True, help="Wait, and pause, while the machine is in use ([nightly] idle_minutes)."
)
@click.option("--due", metavar="HH:MM", help="Do nothing if a night has begun since that time of day, local time.")
@_JSON
def run(when_idle: bool, due: str | None, as_json: bool) -> None:
    """Walk one night: select, build, train, export, parity, gate, swap, report.

    A night that was cut off goes on where it stopped. The exit code is 0 also where there was nothing to do, 3 where
    the candidate was refused, 1 where the night failed or another one is at work.

    Example: koboshi nightly run
    """
    from .training import plan_of, stop_at_once, workshop_here

    if due is not None and not _is_due(due):
        progress(f"A night has begun since {due}: nothing is due.")
        return
    with workshop_here({}) as workshop:
        from ..night.idle import IdleRule
        from ..night.night import NightPlan, run_night
        from .train_progress import Teller

        settings, listener = workshop.settings, Teller().listener
        rule = IdleRule(settings.nightly, workshop.store, progress)
        plan = NightPlan(plan_of(workshop), settings.nightly, listener, _tell_rollouts)
        stop_at_once()
        morning = run_night(workshop, replace(plan, pause=rule.pause) if when_idle else plan)
        home = workshop.home
    _print(home, morning, as_json=as_json)
    _leave(morning)


@nightly.command()
@_JSON
def status(as_json: bool) -> None:
    """Say whether a night is at work, what the last one came to, and what the next one lacks.

    Example: koboshi nightly status
    """
    from koboshi_runtime.night_sign import at_work
    from koboshi_runtime.store import Store
    from koboshi_runtime.text import plain
    from koboshi_runtime.watch import follow

    from ..morning.files import read_last
    from ..night.readiness import readiness

    home = open_home()
    store = Store.open(home.traces)
    ready = readiness(store, load_config_here().settings.nightly)
    watched = follow(home, store, rollback=False)
    store.close()
    working, last = at_work(home), read_last(home)
    if as_json:
        counts = ready.model_dump(mode="json") | {"missing": ready.missing, "text": ready.text}
        described = last and {"headline": last[1].headline, "ended_at": last[1].ended_at, "report": str(last[0])}
        told = {"at_work": working and working.model_dump(mode="json"), "watch": watched and watched.text}
        echo_json({"labels": counts, **told, "last": described})
        return
    click.echo(ready.text)
    if working is not None:
        click.echo(plain(f"at work: {working.stage}, since {working.since}, process {working.pid}"))
    if watched is not None:
        click.echo(plain(f"watch: {watched.text}"))
    if last is not None:
        click.echo(plain(f"last night ({last[1].ended_at[:10]}): {last[1].headline}"))
        click.echo(plain(f"its report: {last[0]}"))


@nightly.command("install-timer")
@click.option("--at", default="03:00", show_default=True, metavar="HH:MM", help="When a night begins, local time.")
@_KIND
@click.option("--yes", is_flag=True, help="Install without being asked.")
def install_timer(at: str, kind: str, yes: bool) -> None:
    """Let nights of this project begin by themselves, after showing what would be written.

    Example: koboshi nightly install-timer --at 02:30
    """
    from koboshi_runtime.cli.terminal import attended

    from ..night import timers

    timer, chosen = _timer(_clock_time(at)), _chosen(kind)
    folder = timers.units_folder()
    for line in _shown(timer, chosen):
        click.echo(line)
    if not yes:
        if not attended():
            raise UsageError("nobody is here to agree to this timer", hint="Give --yes to install it.")
        click.confirm("Install this?", err=True, abort=True)
    if chosen == "systemd":
        timers.place_units(timer, folder)
        progress("Nights begin while you are logged in; to let them begin without: loginctl enable-linger")
    else:
        timers.place_line(timer)
    progress(f"A night of {timer.project} begins at {at} from now on. To undo: koboshi nightly remove-timer")


@nightly.command("remove-timer")
def remove_timer() -> None:
    """Let nights of this project no longer begin by themselves.

    Example: koboshi nightly remove-timer
    """
    from ..night import timers

    timer = _timer("00:00")
    found = [timers.remove_units(timer, timers.units_folder()), timers.remove_line(timer)]
    said = "no longer begin by themselves" if any(found) else "had no timer: there is nothing to remove"
    progress(f"Nights of {timer.project} {said}.")


@nightly.command()
@click.argument("night", required=False)
@_JSON
def report(night: str | None, as_json: bool) -> None:
    """Show the report of the last night, or of the one whose id is given.

    Example: koboshi nightly report
    """
    from ..morning.files import read_morning

    home = open_home()
    _, morning = read_morning(home, night)
    _print(home, morning, as_json=as_json)


def _is_due(at: str) -> bool:
    """Say whether no night has begun since the last time that the clock here showed `at`."""
    from koboshi_runtime.store import JobStatus, Store

    from ..night.readiness import JOB

    hour, minute = map(int, _clock_time(at).split(":"))
    now = datetime.now().astimezone()
    last = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    last = last if last <= now else last - timedelta(days=1)
    store = Store.open(open_home().traces)
    begun = [
        datetime.fromisoformat(job.started_at) for job in store.jobs(JOB) if job.status is not JobStatus.INTERRUPTED
    ]
    store.close()
    return all(time < last for time in begun)


def _clock_time(at: str) -> str:
    try:
        return datetime.strptime(at, "%H:%M").strftime("%H:%M")
    except ValueError as error:
        raise UsageError(f"{at!r} is no time of day", hint="Give one such as 03:00.") from error


def _timer(at: str) -> "Timer":
    from ..night.timers import Timer

    folder = project_dir()
    if folder is None:
        raise UsageError("there is no project here for nights", hint="Name it with -C DIR.")
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return Timer(open_home().root, folder, at, Path(base) if Path(base).is_absolute() else None)


def _chosen(kind: str) -> "Kind":
    from ..night.timers import find_kind

    if kind == "systemd":
        return "systemd"
    return "cron" if kind == "cron" else find_kind()


def _shown(timer: "Timer", kind: "Kind") -> list[str]:
    from koboshi_runtime.text import plain

    from ..night.timers import cron_line, units, units_folder

    if kind == "cron":
        return ["# into cron's table:", plain(cron_line(timer))]
    lines = []
    for name, text in units(timer).items():
        lines += [plain(f"# {units_folder() / name}"), *map(plain, text.splitlines()), ""]
    return lines


def _tell_rollouts(found: "RolloutProgress") -> None:
    if found.done % _ROLLOUTS_TOLD == 0 or found.done == found.wanted:
        progress(f"  tried: {found.done} of {found.wanted} runs")


def _print(home: "Home", morning: "Morning", *, as_json: bool) -> None:
    from rich.console import Console

    from ..morning.files import report_path
    from ..morning.text import print_morning

    if as_json:
        echo_json({"headline": morning.headline, **morning.model_dump(mode="json")})
        return
    print_morning(morning, Console())
    progress(f"The report is in {report_path(home, morning)}.")


def _leave(morning: "Morning") -> None:
    from ..morning.report import Kind

    reasons = "; ".join(morning.reasons)
    if morning.kind is Kind.REFUSED:
        raise RefusedError(f"{morning.candidate or 'the candidate'} was refused: {reasons}", hint=morning.hint)
    if morning.kind is Kind.FAILED:
        raise KoboshiError(f"the night failed: {reasons}", hint=morning.hint)
