"""From an experiment's results to the table: a rate for each arm and way of decoding, and what it gained over whom.

Only results count that the file asks for. Those that lack, and those that were made under another version of the file,
are named, because a table that silently leaves an arm out is read as if it had been there.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from koboshi_tools import Frozen

from .file import GREEDY, Arm, Examination, Experiment
from .results import FitResult, Found, PoolResult, RunsResult
from .stats import Estimate, Outcomes, difference, estimate, matrix


class Row(Frozen):
    """One line of a table; `chosen` says how one of several samples was chosen, None where one was drawn."""

    arm: str
    decoding: str
    chosen: str | None
    tasks: int
    seeds: int
    success: Estimate
    over_reference: Estimate | None
    invalid_call_rate: float | None
    tokens_a_task: float


class Comparison(Frozen):
    """A paired difference that the table's reference does not show."""

    left: str
    right: str
    difference: Estimate


class Table(Frozen):
    """All of one evaluation."""

    evaluation: str
    primary: bool
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]


class LabReport(Frozen):
    """All of an experiment; `missing` and `older` name results that lack or are of another version of the file."""

    name: str
    question: str
    reference: str
    seeds: tuple[int, ...]
    tables: tuple[Table, ...]
    fits: tuple[FitResult, ...]
    runs: tuple[RunsResult, ...]
    pools: tuple[PoolResult, ...]
    missing: tuple[str, ...]
    older: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line before it is compared: marks by seed. A `seedless` one has one column that stands beside every seed."""

    arm: Arm
    decoding: str
    chosen: str | None
    marks: dict[int, str]
    seedless: bool
    results: tuple[RunsResult, ...]

    @property
    def outcomes(self) -> Outcomes:
        return matrix(self.marks, sorted(self.marks))

    def beside(self, seeds: Sequence[int]) -> Outcomes:
        (only, *_) = self.marks
        return matrix(self.marks, [only] * len(seeds) if self.seedless else seeds)

    @property
    def title(self) -> str:
        return " · ".join(part for part in (self.arm.name, _plain(self.decoding), self.chosen) if part)


def make_report(experiment: Experiment, found: Found) -> LabReport:
    """Return the report of what was found so far."""
    ordered = sorted(experiment.evaluation, key=lambda evaluation: not evaluation.primary)
    asked = set(_asked(experiment))
    have = {(run.arm, run.evaluation, run.decoding) for run in found.runs}
    older = [f"{one.arm}, seed {one.seed}" for one in found.fits if one.experiment != experiment.hash]
    older += [f"{one.arm}, seed {one.seed}" for one in found.runs if one.experiment != experiment.hash]
    return LabReport(
        name=experiment.name,
        question=experiment.question,
        reference=experiment.reference,
        seeds=experiment.seeds,
        tables=tuple(table for evaluation in ordered if (table := _table(experiment, found, evaluation)).rows),
        fits=found.fits,
        runs=found.runs,
        pools=found.pools,
        missing=tuple(f"{arm} on {evaluation} ({way})" for arm, evaluation, way in sorted(asked - have)),
        older=tuple(sorted(set(older))),
    )


def _asked(experiment: Experiment) -> Iterator[tuple[str, str, str]]:
    for arm in experiment.arm:
        for evaluation in experiment.evaluation:
            wanted = evaluation.decodings or arm.decodings
            yield from ((arm.name, evaluation.name, way) for way in arm.decodings if way in wanted)


def _table(experiment: Experiment, found: Found, evaluation: Examination) -> Table:
    lines = list(_lines(experiment, found, evaluation))
    reference = _find(lines, experiment.reference)
    return Table(
        evaluation=evaluation.name,
        primary=evaluation.primary,
        rows=tuple(_row(line, reference) for line in lines),
        comparisons=tuple(_comparisons(lines)),
    )


def _lines(experiment: Experiment, found: Found, evaluation: Examination) -> Iterator[_Line]:
    by_cell: dict[tuple[str, str], dict[int, RunsResult]] = defaultdict(dict)
    for run in found.runs:
        if run.evaluation == evaluation.name:
            by_cell[run.arm, run.decoding][run.seed] = run
    for arm in experiment.arm:
        for way in arm.decodings:
            results = by_cell.get((arm.name, way))
            if results:
                yield from _lines_of(arm, way, results, seedless=not experiment.has_seeds(arm, experiment.way(way)))


def _lines_of(arm: Arm, way: str, results: dict[int, RunsResult], *, seedless: bool) -> Iterator[_Line]:
    kept = tuple(results.values())
    first = {seed: run.outcomes for seed, run in results.items()}
    yield _Line(arm, way, "one sample" if kept[0].samples > 1 else None, first, seedless, kept)
    for how in kept[0].chosen:
        yield _Line(arm, way, how, {seed: run.chosen[how] for seed, run in results.items()}, seedless, kept)


def _row(line: _Line, reference: _Line | None) -> Row:
    begun = sum(run.calls_begun for run in line.results)
    tasks = sum(run.tasks for run in line.results)
    return Row(
        arm=line.arm.name,
        decoding=line.decoding,
        chosen=line.chosen,
        tasks=len(line.outcomes),
        seeds=len(line.results),
        success=estimate(line.outcomes),
        over_reference=_paired(line, reference) if reference is not None and line is not reference else None,
        invalid_call_rate=sum(run.invalid_calls for run in line.results) / begun if begun else None,
        tokens_a_task=sum(run.output_tokens for run in line.results) / tasks,
    )


def _comparisons(lines: Sequence[_Line]) -> Iterator[Comparison]:
    """Yield the wrong condition against the right one of the same model, and the contrast against plain choosing."""
    for line in lines:
        own = _find(lines, line.arm.name)
        against = [own] if line.chosen is None and own is not None and own is not line else []
        if line.chosen in {"contrast", "contrast-vote"}:
            plain = (one for one in lines if one.arm == line.arm and one.decoding == line.decoding)
            against = [one for one in plain if one.chosen in {"majority", "logprob"}]
        for other in against:
            if (found := _paired(line, other)) is not None:
                yield Comparison(left=line.title, right=other.title, difference=found)


def _paired(left: _Line, right: _Line) -> Estimate | None:
    """Return what `left` gained over `right` on the seeds that both have so far, None where there are none."""
    both = [one.marks.keys() for one in (left, right) if not one.seedless] or [left.marks.keys()]
    seeds = sorted(set.intersection(*map(set, both)))
    return difference(left.beside(seeds), right.beside(seeds)) if seeds else None


def _find(lines: Sequence[_Line], arm: str) -> _Line | None:
    """Return the plain line of an arm."""
    return next((one for one in lines if one.arm.name == arm and one.decoding == GREEDY), None)


def _plain(decoding: str) -> str | None:
    return None if decoding == GREEDY else decoding
