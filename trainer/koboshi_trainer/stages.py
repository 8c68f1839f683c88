"""The stages from stored runs to an exported model: build, fit, export; plain functions that each leave a folder.

Each may be called again after a kill at any point: what is whole is kept, what is not is made again, and the same seed
gives the same result. A model is always trained from its base's F16 master, never from a quantised file. `build` reads
the store and closes it before the long work begins.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from koboshi_runtime.home import Home
from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.model import Model
from koboshi_runtime.models.inspect import quantise
from koboshi_runtime.records import OutcomeLabel, Purpose, Split, Trajectory
from koboshi_runtime.store import Store

from .conditions import tuned_profile, user_segments
from .dataset import Dataset, DatasetSettings, build_dataset
from .export import ExportManifest, StageName, export
from .fit_file import fit_file, load_for
from .fit_values import FitReport, FitSettings, OnProgress
from .imported import encoded
from .master import MasterManifest, make_master
from .methods import Assignment, Method, assign
from .rows import Example, TokenRow

MASTER_FILE = "master.f16.gguf"
_KINDS = 2
_JUDGED = (Purpose.EVAL, Purpose.GATE)


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How a dataset is trained on."""

    method: Method = Method.NAT
    settings: FitSettings = field(default_factory=FitSettings)
    assignment: Assignment = field(default_factory=Assignment)


async def build(home: Home, model: Model, settings: DatasetSettings | None = None) -> Dataset:
    """Freeze what the home's store holds for training, in the ids of `model`, under `home.datasets`.

    Raises DatasetError if no run can be learnt from, StoreError if the store cannot be read.
    """
    settings = settings or DatasetSettings()
    profile = tuned_profile(model.info.profile)
    stored, evaluated = _copy_rows(home)
    trajectories = await encoded(stored, model, profile)
    segment = await user_segments(trajectories, model, profile, settings.conditions)
    return build_dataset(trajectories, segment, home.datasets, settings=settings, evaluated=evaluated)


def master_of(base: Path, folder: Path) -> MasterManifest:
    """Return the manifest of the F16 master of `base` in `folder`, made at the first call.

    Raises UsageError for an architecture whose export was not proved.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return make_master(base, folder / MASTER_FILE)


def fit_dataset(
    dataset: Dataset, master: Path, out: Path, plan: FitPlan, *, on_progress: OnProgress | None = None
) -> FitReport:
    """Train an adapter for `master` on `dataset` in the folder `out`; the report says whether it learnt.

    The report holds the label mix, the gradients, and the held-out loss by class before and after. A contrast is left
    out where all own runs are of one outcome.
    """
    settings = plan.settings
    if len({example.label for example in dataset.train if not example.demonstration}) < _KINDS:
        # What tells a good run from a bad one cannot be learnt from one kind.
        settings = settings.without_contrast()
    rows = assign(dataset.train, plan.method, replace(plan.assignment, twins=settings.contrast > 0))
    return fit_file(
        master,
        load_for(master, settings),
        rows,
        settings,
        out,
        held_out=_held_out_rows(dataset.held_out, plan),
        progress=on_progress,
    )


def export_adapter(
    master: Path,
    adapter: Path,
    out: Path,
    *,
    run_id: str,
    on_stage: Callable[[StageName], None] = lambda name: None,
) -> ExportManifest:
    """Make the F16, Q8_0 and adapter files of a fit in the folder `out`."""
    return export(
        master,
        adapter,
        out,
        quantise=lambda source, target: quantise(source, target, "q8_0"),
        run_id=run_id,
        on_stage=on_stage,
    )


def _copy_rows(home: Home) -> tuple[list[Trajectory], set[str]]:
    store = Store.read_only(home.traces)
    try:
        found = store.iter_trajectories((Purpose.WORK, Purpose.ROLLOUT), (Split.TRAIN,))
        rows = [trajectory for trajectory in found if not _is_wrong_teacher(trajectory)]
        # Only those that are asked here: a gate that was killed must not give the same runs another dataset's name.
        asked = {prompt_hash(trajectory.header.prompt) for trajectory in rows}
        return rows, asked & store.prompt_hashes(_JUDGED)
    finally:
        store.close()


def _is_wrong_teacher(trajectory: Trajectory) -> bool:
    return trajectory.header.demonstration and trajectory.outcome is not OutcomeLabel.SUCCESS


def _held_out_rows(examples: Sequence[Example], plan: FitPlan) -> Mapping[str, Sequence[TokenRow]]:
    rows: dict[str, list[TokenRow]] = defaultdict(list)
    for row in assign(examples, plan.method, plan.assignment):
        rows[row.label].append(row)
    return dict(rows)
