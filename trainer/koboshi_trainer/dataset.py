"""Freeze what a night learns from: examples and a manifest, in a folder named by its hash.

Read from trajectories of work and rollout whose outcome is known, never from a task that an evaluation or a gate has
seen. A run whose user turn cannot be rendered exactly as it was logged is left out: what is trained must be what is
served. A part of the tasks, by a hash that does not change from night to night, is held out to measure the loss. The
folder is written whole or not at all, and holds no clock: the same runs give the same bytes and the same hash.
"""

import gzip
import json
import platform
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from koboshi_policies.versions import ToolVersion
from koboshi_runtime.files import replace_file, sync_folder, temporary_name
from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.records import OutcomeLabel, Trajectory
from koboshi_runtime.traces.blame import blame_of
from koboshi_tools import Frozen, KoboshiError, canonical_json, hash_bytes, hash_value

from .at_hand import at_hand
from .duplicates import Caps, keep
from .injection import outside_sources
from .quality import MALFORMED, FailureClass, failure_class, why_not
from .rows import NO_CONDITION, Example, RowError, UserSegment, logged_user_ids, prefix_and_spans

ROWS_FILE = "rows.jsonl.gz"
MANIFEST_FILE = "manifest.json"
_SHARE_DIGITS = 8


class DatasetError(KoboshiError):
    """A dataset cannot be built, or is not what its manifest says."""


class DatasetSettings(Frozen):
    """What goes into a dataset. `conditions` are those that its rows can be trained under, besides none."""

    conditions: tuple[str, ...] = ("success", "failure")
    caps: Caps = Caps()
    left_out: tuple[FailureClass, ...] = MALFORMED
    weak_signals: bool = False
    held_out_share: float = Field(default=0.1, ge=0, lt=1, description="of the tasks")
    longest: int = Field(default=2048, ge=1, description="ids of a row with its prefix; longer runs are left out")
    seed: int = 0

    def naming(self, classes: Iterable[str]) -> "DatasetSettings":
        """Return these settings with the conditions of failure classes beside their own."""
        conditions = tuple(dict.fromkeys((*self.conditions, *classes)))
        return self.model_copy(update={"conditions": conditions})


class Counts(Frozen):
    """How many rows are of what; `excluded` counts runs by the reason why they are none.

    `marked_steps` counts the steps that a policy denied or changed or a person approved, `tool_versions` the rows by
    tool and version, `sources` those that were told something from a place outside, `imported` those that were read
    from a file, `blamed` the failures whose first bad step is known.
    """

    train: int
    held_out: int
    tasks: int
    labels: dict[str, int]
    failure_classes: dict[str, int]
    tools: dict[str, int]
    levels: dict[str, int]
    projects: dict[str, int]
    demonstrations: int
    excluded: dict[str, int]
    marked_steps: dict[str, int] = Field(default_factory=dict)
    tool_versions: dict[str, int] = Field(default_factory=dict)
    sources: dict[str, int] = Field(default_factory=dict)
    imported: dict[str, int] = Field(default_factory=dict)
    blamed: int = 0


class DatasetManifest(Frozen):
    """Which runs are in a dataset, and by which rules. `parents` are the models whose runs they are."""

    dataset_hash: str
    rows_hash: str
    run_ids: tuple[str, ...]
    parents: tuple[str, ...]
    counts: Counts
    settings: DatasetSettings
    evaluated_prompts_hash: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A frozen dataset, read."""

    path: Path
    manifest: DatasetManifest
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def build_dataset(
    trajectories: Iterable[Trajectory],
    user_segment: UserSegment,
    folder: Path,
    *,
    settings: DatasetSettings | None = None,
    evaluated: Set[str] = frozenset(),
) -> Dataset:
    """Freeze the examples among `trajectories` in a folder under `folder`, and read it back.

    `evaluated` are the hashes of every prompt that was ever evaluated (`Store.prompt_hashes`). Raises DatasetError if
    nothing is left, with the counts by reason.
    """
    settings = settings or DatasetSettings()
    excluded: Counter[str] = Counter()
    runs = list(trajectories)
    blamed = first_bad_steps(runs)
    found = [_example(run, user_segment, settings, evaluated, excluded) for run in runs]
    known = [_blamed(example, blamed) for example in found if example is not None]
    kept = keep(known, settings.caps, seed=settings.seed)
    excluded.update(kept.dropped)
    if not kept.examples:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(excluded.items())) or "there were none"
        raise DatasetError(
            f"no run can be learnt from: {reasons}",
            hint="Run tasks that can be checked, or judge runs with `koboshi outcome queue`.",
        )
    rows = gzip.compress(_lines(kept.examples, settings), mtime=0)
    manifest = _manifest(kept.examples, rows, settings, excluded, evaluated)
    return load_dataset(_freeze(folder / manifest.dataset_hash.removeprefix("sha256:"), rows, manifest))


def load_dataset(path: Path) -> Dataset:
    """Read a dataset's folder. Raises DatasetError if it is missing, or not the rows that its manifest names."""
    try:
        manifest = DatasetManifest.model_validate_json((path / MANIFEST_FILE).read_bytes())
        data = (path / ROWS_FILE).read_bytes()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is no dataset: {error}", hint="Build one with `koboshi train build`.") from error
    if hash_bytes(data) != manifest.rows_hash:
        raise DatasetError(f"{path / ROWS_FILE} was changed: its hash is {hash_bytes(data)[:19]}")
    parts: tuple[list[Example], list[Example]] = ([], [])
    for line in gzip.decompress(data).splitlines():
        row = json.loads(line)
        parts[row["held_out"]].append(Example.model_validate(row["example"]))
    return Dataset(path=path, manifest=manifest, train=tuple(parts[0]), held_out=tuple(parts[1]))


def _example(
    trajectory: Trajectory,
    user_segment: UserSegment,
    settings: DatasetSettings,
    evaluated: Set[str],
    excluded: Counter[str],
) -> Example | None:
    header = trajectory.header
    kind = failure_class(trajectory)
    reason = why_not(trajectory, evaluated=evaluated, weak_signals=settings.weak_signals)
    if reason is None and kind in settings.left_out:
        reason = str(kind)
    if reason is None and user_segment(header.prompt, header.condition) != logged_user_ids(trajectory):
        reason = "other_prompt"
    if reason is not None:
        excluded[reason] += 1
        return None
    try:
        prefix, spans = prefix_and_spans(trajectory)
    except RowError:
        excluded["no_reply"] += 1
        return None
    users = {name: user_segment(header.prompt, name) for name in settings.conditions}
    users[NO_CONDITION] = user_segment(header.prompt, None)
    if len(prefix) + max(map(len, users.values())) + sum(len(span.ids) for span in spans) > settings.longest:
        excluded["too_long"] += 1
        return None
    return Example(
        run_id=trajectory.run_id,
        task_hash=prompt_hash(header.prompt),
        project=header.project,
        purpose=header.purpose,
        label=trajectory.outcome,
        failure_class=kind,
        demonstration=header.demonstration,
        forked=header.forked_at is not None,
        tools=tuple(sorted({call.intent.call.name for call in trajectory.calls})),
        tool_versions=_tool_versions(trajectory),
        sources=outside_sources(trajectory),
        level=_level(header.task),
        imported=header.imported,
        created_at=trajectory.created_at,
        model_hash=header.model_hash,
        prefix_ids=prefix,
        users=users,
        spans=spans,
    )


def first_bad_steps(runs: Sequence[Trajectory]) -> dict[str, int]:
    """Return the first bad step of each failed run among `runs` whose forks among them show it.

    A run is not lost before its answer was at hand, though few tries from there may fail to say it.
    """
    solved, forks = set[str](), defaultdict[str, list[Trajectory]](list)
    for run in runs:
        if run.header.forked_at is not None and run.header.parent_run_id is not None:
            forks[run.header.parent_run_id].append(run)
        elif run.outcome is OutcomeLabel.SUCCESS and not run.header.demonstration:
            solved.add(run.header.prompt)
    failed = (run for run in runs if run.run_id in forks and run.outcome is OutcomeLabel.FAILURE)
    found = (blame_of(run, forks[run.run_id], solved=run.header.prompt in solved) for run in failed)
    places = {blame.run_id: blame.first_bad for blame in found if blame.first_bad is not None}
    return {run.run_id: max(places[run.run_id], at_hand(run) or 0) for run in runs if run.run_id in places}


def _blamed(example: Example, first_bad: Mapping[str, int]) -> Example:
    return example.model_copy(update={"first_bad": first_bad.get(example.run_id)})


def _tool_versions(trajectory: Trajectory) -> dict[str, ToolVersion]:
    intents = [call.intent for call in trajectory.calls]
    return {
        intent.call.name: ToolVersion(version=intent.tool_version, digest=intent.tool_digest)
        for intent in intents
        if intent.tool_version is not None and intent.tool_digest is not None
    }


def _level(task: dict[str, Any] | None) -> str | None:
    meta = (task or {}).get("meta") or {}
    return str(meta["level"]) if "level" in meta else None


def _is_held_out(example: Example, settings: DatasetSettings) -> bool:
    """By the task alone: a task that is held out tonight is held out every night."""
    digest = hash_value(["held_out", example.task_hash]).removeprefix("sha256:")
    share: float = int(digest[:_SHARE_DIGITS], 16) / 16**_SHARE_DIGITS
    return share < settings.held_out_share


def _lines(examples: Iterable[Example], settings: DatasetSettings) -> bytes:
    rows = [
        {"held_out": _is_held_out(example, settings), "example": example.model_dump(mode="json")}
        for example in examples
    ]
    return "".join(canonical_json(row) + "\n" for row in rows).encode()


def _manifest(
    examples: tuple[Example, ...],
    rows: bytes,
    settings: DatasetSettings,
    excluded: Counter[str],
    evaluated: Set[str],
) -> DatasetManifest:
    unnamed = DatasetManifest(
        dataset_hash="",
        rows_hash=hash_bytes(rows),
        run_ids=tuple(example.run_id for example in examples),
        parents=tuple(sorted({example.model_hash for example in examples})),
        counts=_counts(examples, settings, excluded),
        settings=settings,
        evaluated_prompts_hash=hash_value(sorted(evaluated)),
        versions={"koboshi": version("koboshi"), "python": platform.python_version()},
    )
    return unnamed.model_copy(update={"dataset_hash": hash_value(unnamed.model_dump(mode="json"))})


def _counts(examples: tuple[Example, ...], settings: DatasetSettings, excluded: Counter[str]) -> Counts:
    held_out = sum(_is_held_out(example, settings) for example in examples)
    return Counts(
        train=len(examples) - held_out,
        held_out=held_out,
        tasks=len({example.task_hash for example in examples}),
        labels=_count(example.label.value for example in examples),
        failure_classes=_count(example.failure_class for example in examples if example.failure_class),
        tools=_count(tool for example in examples for tool in example.tools),
        levels=_count(example.level for example in examples if example.level is not None),
        projects=_count(example.project for example in examples),
        demonstrations=sum(example.demonstration for example in examples),
        excluded=dict(sorted(excluded.items())),
        marked_steps=_count(span.mark.value for example in examples for span in example.spans if span.mark),
        tool_versions=_count(
            f"{tool} {each.version}" for example in examples for tool, each in example.tool_versions.items()
        ),
        sources=_count(source for example in examples for source in example.sources),
        imported=_count(example.imported for example in examples if example.imported),
        blamed=sum(example.first_bad is not None for example in examples),
    )


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _freeze(path: Path, rows: bytes, manifest: DatasetManifest) -> Path:
    if path.exists():
        # `koboshi gc` takes the rows of old datasets and leaves their manifests.
        if not (path / ROWS_FILE).exists():
            replace_file(path / ROWS_FILE, rows)
        return path
    temporary = temporary_name(path)
    temporary.mkdir(parents=True, mode=0o700)
    try:
        replace_file(temporary / ROWS_FILE, rows)
        replace_file(temporary / MANIFEST_FILE, (manifest.model_dump_json(indent=2) + "\n").encode())
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)
    return path
