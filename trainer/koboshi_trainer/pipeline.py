"""From what the home holds to a model that is live or refused: build, fit, export, parity, gate, decide.

Each stage leaves its result in the job's folder, named by what goes in: the same dataset, plan and base come to the
same folder, and a stage that is whole there is not made again. So a pipeline that was killed goes on where it stood
when it is called once more. One at a time for a home: another waits.

What went live once is not brought back by training it again: whoever rolled it back had a reason.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from koboshi_runtime.files import locked, replace_file
from koboshi_runtime.models.manifest import ModelState
from koboshi_runtime.models.registry import ModelEntry, short
from koboshi_runtime.store import JobStatus
from koboshi_tools import Frozen, RefusedError, UsageError, hash_value

from .dataset import Dataset, DatasetSettings, load_dataset
from .fit_values import FitProgress, FitReport
from .gate.run import OnRun, run_gate
from .gate.values import GateVerdict
from .parity import ParityReport
from .parity_run import measure_parity
from .promotion import decide, refuse, register_candidate
from .stages import MASTER_FILE, FitPlan, build, export_adapter, fit_dataset, master_of
from .train_settings import dataset_settings
from .workshop import Workshop

GATE_FILE = "gate.json"
"""A verdict in a job's folder; before it stands the beginning of the hash of the model that it is against."""

_LOCK = "train.lock"


@dataclass(frozen=True, slots=True)
class Listener:
    """Whoever wants to know how far it is; each function may be left out."""

    on_stage: Callable[[str], None] = lambda stage: None
    on_fit: Callable[[FitProgress], None] = lambda progress: None
    on_gate: OnRun = lambda side, done, wanted: None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is ready for the gate: the job's `folder` with `adapter/` and, if it was asked for, `export/`."""

    current: ModelEntry
    base: ModelEntry
    dataset: Dataset
    folder: Path
    fit: FitReport


class TrainResult(Frozen):
    """What became of one pipeline; `verdict` is None where parity refused before the gate."""

    promoted: bool
    name: str
    model_hash: str
    base_hash: str
    against: str
    dataset_hash: str
    folder: str
    fit: FitReport
    parity: ParityReport
    verdict: GateVerdict | None


async def build_dataset_here(workshop: Workshop, settings: DatasetSettings | None = None) -> Dataset:
    """Freeze what the home holds for training, in the ids of the current model."""
    current = workshop.registry.current()
    settings = settings or dataset_settings(workshop.settings.train)
    async with workshop.model(current, workshop.learner_profile(workshop.base_of(current))) as model:
        return await build(workshop.home, model, settings)


async def prepare(
    workshop: Workshop,
    plan: FitPlan,
    *,
    exported: bool,
    settings: DatasetSettings | None = None,
    dataset: Path | None = None,
    listener: Listener | None = None,
) -> Prepared:
    """Walk the stages up to the fit, or up to the export; a later `train` goes on from there.

    Raises KoboshiError where a stage cannot be carried out.
    """
    listener = listener or Listener()
    with _alone(workshop):
        frozen = await _dataset(workshop, settings, dataset, listener)
        return _prepare(workshop, plan, frozen, listener, exported=exported)


async def train(
    workshop: Workshop,
    plan: FitPlan,
    *,
    name: str | None = None,
    settings: DatasetSettings | None = None,
    dataset: Path | None = None,
    most_gate_tasks: int | None = None,
    listener: Listener | None = None,
) -> TrainResult:
    """Walk all stages and say what became of the candidate.

    Raises KoboshiError where a stage cannot be carried out, RefusedError where the gate's error budget is spent or the
    candidate was live before; what is live does not change then.
    """
    listener = listener or Listener()
    with _alone(workshop):
        frozen = await _dataset(workshop, settings, dataset, listener)
        job = workshop.store.start_job("train", {"dataset": frozen.manifest.dataset_hash, "method": plan.method.value})
        try:
            prepared = _prepare(workshop, plan, frozen, listener, exported=True)
            result = await _prove(workshop, prepared, name, most_gate_tasks, listener)
        except BaseException as error:
            failed = isinstance(error, Exception)
            workshop.store.finish_job(
                job, JobStatus.FAILED if failed else JobStatus.INTERRUPTED, {"error": str(error) or repr(error)}
            )
            raise
        workshop.store.finish_job(
            job, JobStatus.DONE if result.promoted else JobStatus.REFUSED, result.model_dump(mode="json")
        )
        return result


def job_folder(workshop: Workshop, dataset: Dataset, plan: FitPlan, base: ModelEntry) -> Path:
    """Return the folder of the pipeline with these inputs."""
    key = hash_value(
        {
            "dataset": dataset.manifest.dataset_hash,
            "base": base.manifest.model_hash,
            "method": plan.method.value,
            "settings": plan.settings.identity(),
            "assignment": repr(plan.assignment),
        }
    )
    return workshop.home.runs / key.removeprefix("sha256:")[:16]


def master_path(base: ModelEntry) -> Path:
    """Return where the F16 master of a base model lies."""
    return base.path.parent / MASTER_FILE


@contextmanager
def _alone(workshop: Workshop) -> Iterator[None]:
    with locked(workshop.home.run / _LOCK):
        for job in workshop.store.jobs("train"):
            if job.status is JobStatus.RUNNING:
                # Whoever ran it held this lock, and died with it.
                workshop.store.finish_job(job.job_id, JobStatus.INTERRUPTED)
        yield


async def _dataset(
    workshop: Workshop, settings: DatasetSettings | None, path: Path | None, listener: Listener
) -> Dataset:
    listener.on_stage("build")
    return load_dataset(path) if path else await build_dataset_here(workshop, settings)


def _prepare(workshop: Workshop, plan: FitPlan, dataset: Dataset, listener: Listener, *, exported: bool) -> Prepared:
    current = workshop.registry.current()
    base = workshop.base_of(current)
    if not base.manifest.trainable:
        raise UsageError(
            f"{base.manifest.name} cannot be trained: {base.manifest.trainable_reason}",
            hint="Add another model with: koboshi models add FILE.gguf",
        )
    folder, master = job_folder(workshop, dataset, plan, base), master_path(base)
    listener.on_stage("fit")
    master_of(base.path, base.path.parent)
    report = fit_dataset(dataset, master, folder / "adapter", plan, on_progress=listener.on_fit)
    if exported:
        listener.on_stage("export")
        export_adapter(master, folder / "adapter", folder / "export", run_id=folder.name)
    return Prepared(current, base, dataset, folder, report)


async def _prove(
    workshop: Workshop, made: Prepared, name: str | None, most_gate_tasks: int | None, listener: Listener
) -> TrainResult:
    listener.on_stage("parity")
    export_folder = made.folder / "export"
    parity = await measure_parity(
        master_path(made.base),
        made.folder / "adapter",
        export_folder,
        made.dataset.held_out or made.dataset.train,
        profile=workshop.learner_profile(made.base),
    )
    candidate = register_candidate(
        workshop,
        made.base,
        export_folder,
        name=name or f"{made.base.manifest.name}-{made.folder.name[:6]}",
        dataset_hash=made.dataset.manifest.dataset_hash,
        parity=parity,
    )
    verdict = _given(candidate)
    if verdict is None and parity.passed:
        listener.on_stage("gate")
        verdict = await _verdict(workshop, made, candidate, most_gate_tasks, listener)
        decide(workshop, made.current, candidate, verdict)
    elif verdict is None:
        refuse(workshop, candidate)
    return _result(workshop, made, candidate, parity, verdict)


def _given(candidate: ModelEntry) -> GateVerdict | None:
    """Return the verdict by which a candidate is live already, as after a kill behind the promotion; else None."""
    gate = candidate.manifest.gate
    if gate is None or not gate.accepted or candidate.state is ModelState.CANDIDATE:
        return None
    if candidate.state is not ModelState.CURRENT:
        known = candidate.manifest
        raise RefusedError(
            f"this training makes {known.name} again, which was live before and is {candidate.state} now",
            hint=f"Train on newer runs, or go back to it with: koboshi models promote {short(known.model_hash)}",
        )
    return GateVerdict.model_validate(gate.verdict)


async def _verdict(
    workshop: Workshop, made: Prepared, candidate: ModelEntry, most_tasks: int | None, listener: Listener
) -> GateVerdict:
    """Return the verdict in the job's folder, or run the gate and keep it there before anything rests on it."""
    path = made.folder / f"{short(made.current.manifest.model_hash)}.{GATE_FILE}"
    if path.is_file():
        return GateVerdict.model_validate_json(path.read_bytes())
    verdict = await run_gate(workshop, made.current, candidate, most_tasks=most_tasks, on_run=listener.on_gate)
    replace_file(path, (verdict.model_dump_json(indent=2) + "\n").encode())
    return verdict


def _result(
    workshop: Workshop, made: Prepared, candidate: ModelEntry, parity: ParityReport, verdict: GateVerdict | None
) -> TrainResult:
    known = workshop.registry.resolve(candidate.manifest.model_hash).manifest
    return TrainResult(
        promoted=verdict is not None and verdict.accepted,
        name=known.name,
        model_hash=known.model_hash,
        base_hash=made.base.manifest.model_hash,
        against=known.gate.against if known.gate else made.current.manifest.model_hash,
        dataset_hash=made.dataset.manifest.dataset_hash,
        folder=str(made.folder),
        fit=made.fit,
        parity=parity,
        verdict=verdict,
    )
