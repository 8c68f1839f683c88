"""Whether a night fits into this machine's memory, disk and time, asked before it begins.

Memory and disk are estimated from the model's header. Time is known once a night has trained: its seconds for each run
that it learnt from, and what its other stages took; before that it is estimated, to a factor of two, from the model's
size and the machine's speed.
"""

import time

from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.estimate import needs, weights_of
from koboshi_runtime.estimate_night import RUNS, night_hours, operations_a_second
from koboshi_runtime.models.inspect import inspect_gguf
from koboshi_runtime.night_sign import rests
from koboshi_runtime.presence import running_server
from koboshi_runtime.store import Store
from koboshi_runtime.tuning import worker_settings
from koboshi_tools import KoboshiError

from ..morning.report import Morning
from ..workshop import Workshop
from .readiness import JOB

# A server looks for a night every second, and unloads after half a minute without a request.
_PATIENCE_S = 40.0


class NoRoomError(KoboshiError):
    """A night does not fit into this machine, or into the time that it may take."""


def refuse_too_large(workshop: Workshop, *, patience_s: float = _PATIENCE_S) -> None:
    """Raise NoRoomError if a night needs more memory or disk than there is; both sides are named.

    Where a server gives up its model at night, it is given `patience_s` seconds to do so.
    """
    base = workshop.base_of(workshop.registry.current())
    worker = worker_settings(workshop.home, workshop.settings, base)
    facts = inspect_gguf(base.path)
    waits = rests(workshop.settings) and running_server(workshop.home) is not None
    ends_at = time.monotonic() + (patience_s if waits else 0.0)
    while True:
        found = needs(facts, base.path.stat().st_size, worker, workshop.settings.train, workshop.home.root)
        lacking = [need for need in found if not need.fits]
        if not lacking or time.monotonic() >= ends_at:
            break
        time.sleep(1)
    if lacking:
        said = "; ".join(f"{need.what}: {need.needed_gb} GB needed, {need.there_gb} GB there" for need in lacking)
        raise NoRoomError(
            f"{base.manifest.name} does not fit: {said}",
            hint="Close programs, let a server rest ([serve] rest), set [train] checkpointing or four_bit, lower "
            "[train] micro_tokens, or train a smaller model; see: koboshi doctor",
        )


def refuse_too_long(workshop: Workshop, rows: int, settings: NightlySettings) -> None:
    """Raise NoRoomError if a night on `rows` runs would take longer than `[nightly] longest_h`."""
    known = expected_s(workshop.store, rows)
    expected = known if known is not None else _estimated_s(workshop, rows)
    if expected > settings.longest_h * 3600:
        by = "the last night here" if known is not None else "the model's size and this machine's speed"
        raise NoRoomError(
            f"a night on {rows} runs would take about {expected / 3600:.1f} h by {by}, and [nightly] longest_h is "
            f"{settings.longest_h:g}",
            hint="Raise it, or lower [train] epochs.",
        )


def expected_s(store: Store, rows: int) -> float | None:
    """Return how long a night on `rows` runs will take, by the last night that trained here; None before there was."""
    for job in store.jobs(JOB):
        if job.result is None or not job.result.get("learnt"):
            continue
        last = Morning.model_validate(job.result)
        learnt = sum(last.learnt.rows.values()) if last.learnt else 0
        fit_s = last.cost.seconds.get("fit")
        if fit_s is not None and learnt:
            return fit_s / learnt * rows + last.cost.total_s - fit_s
    return None


def _estimated_s(workshop: Workshop, rows: int) -> float:
    base = workshop.base_of(workshop.registry.current())
    found = night_hours(
        weights_of(inspect_gguf(base.path), base.path.stat().st_size),
        gate_tasks=workshop.settings.gate.tasks,
        train=workshop.settings.train,
        operations_a_second=operations_a_second(),
    )
    return 3600 * (found.training * rows / RUNS + found.export + found.gate)
