"""From what the home holds to a model that is live or refused: build, fit, export, parity, gate, decide.

Each stage leaves its result in the job's folder, named by what goes in: the same dataset, plan and base come to the
same folder, and a stage that is whole there is not made again. So a pipeline that was killed goes on where it stood
when it is called once more. One at a time for a home.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from koboshi_runtime.files import locked, replace_file
from koboshi_runtime.registry import ModelEntry
from koboshi_runtime.store import JobStatus
from koboshi_tools import Frozen, KoboshiError, UsageError, hash_value

from .dataset import Dataset, DatasetSettings, load_dataset
from .fit_values import FitProgress, FitReport
from .gate_run import OnRun, run_gate
from .gate_values import GateVerdict
from .parity import ParityReport
from .parity_run import measure_parity
from .promotion import decide, refuse, register_candidate
from .stages import FitPlan, build, export_adapter, fit_dataset, master_of
from .workshop import Workshop

GATE_FILE = "gate.json"
_LOCK = "train.lock"


@dataclass(frozen=True, slots=True)
class Listener:
    """Whoever wants to know how far it is; each function may be left out."""

    on_stage: Callable[[str], None] = lambda stage: None
    on_fit: Callable[[FitProgress], None] = lambda progress: None
    on_gate: OnRun = lambda side, done, wanted: None


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
    async with workshop.model(current, workshop.learner_profile(workshop.base_of(current))) as model:
        return await build(workshop.home, model, settings)


def job_folder(workshop: Workshop, dataset: Dataset, plan: FitPlan, base: ModelEntry) -> Path:
    """Return the folder of the pipeline with these inputs."""
    key = hash_value(
        {
            "dataset": dataset.manifest.dataset_hash,
            "base": base.manifest.model_hash,
            "method": plan.method.value,
            "settings": plan.settings.model_dump(mode="json"),
            "assignment": repr(plan.assignment),
        }
    )
    return workshop.home.runs / key.removeprefix("sha256:")[:16]


def fit_and_export(
    workshop: Workshop, dataset: Dataset, plan: FitPlan, base: ModelEntry, listener: Listener
) -> tuple[Path, FitReport]:
    """Make master, adapter and files; returns the job's folder and the report of the fit."""
    if not base.manifest.trainable:
        raise UsageError(f"{base.manifest.name} cannot be trained: {base.manifest.trainable_reason}")
    folder = job_folder(workshop, dataset, plan, base)
    master = master_path(base)
    listener.on_stage("fit")
    master_of(base.path, base.path.parent)
    report = fit_dataset(dataset, master, folder / "adapter", plan, on_progress=listener.on_fit)
    listener.on_stage("export")
    export_adapter(master, folder / "adapter", folder / "export", run_id=folder.name)
    return folder, report


def master_path(base: ModelEntry) -> Path:
    """Return where the F16 master of a base model lies."""
    return base.path.parent / "master.f16.gguf"


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

    Raises KoboshiError where a stage cannot be carried out, RefusedError where the gate's error budget is spent; what
    is live does not change then.
    """
    listener = listener or Listener()
    with locked(workshop.home.run / _LOCK):
        current = workshop.registry.current()
        base = workshop.base_of(current)
        listener.on_stage("build")
        frozen = load_dataset(dataset) if dataset else await build_dataset_here(workshop, settings)
        job = workshop.store.start_job("train", {"dataset": frozen.manifest.dataset_hash, "method": plan.method.value})
        try:
            result = await _carry_out(workshop, plan, frozen, current, base, name, most_gate_tasks, listener)
        except KoboshiError as error:
            workshop.store.finish_job(job, JobStatus.FAILED, {"error": str(error)})
            raise
        workshop.store.finish_job(
            job, JobStatus.DONE if result.promoted else JobStatus.REFUSED, result.model_dump(mode="json")
        )
        return result


async def _carry_out(
    workshop: Workshop,
    plan: FitPlan,
    dataset: Dataset,
    current: ModelEntry,
    base: ModelEntry,
    name: str | None,
    most_gate_tasks: int | None,
    listener: Listener,
) -> TrainResult:
    folder, report = fit_and_export(workshop, dataset, plan, base, listener)
    listener.on_stage("parity")
    held_out = dataset.held_out or dataset.train
    profile = workshop.learner_profile(base)
    parity = await measure_parity(master_path(base), folder / "adapter", folder / "export", held_out, profile=profile)
    candidate = register_candidate(
        workshop,
        base,
        folder / "export",
        name=name or f"{base.manifest.name}-{folder.name[:6]}",
        dataset_hash=dataset.manifest.dataset_hash,
        parity=parity,
    )
    verdict = None
    if parity.passed:
        listener.on_stage("gate")
        verdict = await _verdict(workshop, folder, current, candidate, most_gate_tasks, listener)
        decide(workshop, current, candidate, verdict)
    else:
        refuse(workshop, candidate)
    return TrainResult(
        promoted=verdict is not None and verdict.accepted,
        name=candidate.manifest.name,
        model_hash=candidate.manifest.model_hash,
        base_hash=base.manifest.model_hash,
        against=current.manifest.model_hash,
        dataset_hash=dataset.manifest.dataset_hash,
        folder=str(folder),
        fit=report,
        parity=parity,
        verdict=verdict,
    )


async def _verdict(
    workshop: Workshop,
    folder: Path,
    current: ModelEntry,
    candidate: ModelEntry,
    most_tasks: int | None,
    listener: Listener,
) -> GateVerdict:
    """Return the verdict in the job's folder, or run the gate and keep it there before anything rests on it."""
    path = folder / f"{current.manifest.model_hash.removeprefix('sha256:')[:16]}.{GATE_FILE}"
    if path.is_file():
        return GateVerdict.model_validate_json(path.read_bytes())
    verdict = await run_gate(workshop, current, candidate, most_tasks=most_tasks, on_run=listener.on_gate)
    replace_file(path, (verdict.model_dump_json(indent=2) + "\n").encode())
    return verdict
