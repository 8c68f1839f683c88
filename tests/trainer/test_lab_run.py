"""A whole experiment on a tiny model: made once, resumed, made anew where an input changed, and reported."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.trainer.conftest import Kit
from tests.trainer.lab_bench import EXPERIMENT, open_lab, run_lab, write_experiment

from koboshi_runtime.store.migrations import SCHEMA_VERSION
from koboshi_runtime.trust import UntrustedError
from koboshi_tools import KoboshiError
from koboshi_trainer.commands.lab import lab as lab_command
from koboshi_trainer.lab.report import make_report
from koboshi_trainer.lab.report_text import log_entry, page, write_log
from koboshi_trainer.lab.results import read_all
from koboshi_trainer.lab.screen import LabScreen

SMALL = EXPERIMENT.replace("seeds = [0, 1]", "seeds = [0]")


@pytest.mark.slow
def test_experiment_is_made_once_and_reported(tmp_path: Path, kit: Kit) -> None:
    file = write_experiment(tmp_path / "e", kit, text=SMALL)
    lab = open_lab(file)
    titles = [step.title for step in lab.missing()]
    assert run_lab(lab, tmp_path) == len(titles) == 11
    found = read_all(lab.results)
    assert (len(found.fits), len(found.runs)) == (2, 6)
    steps = {fit.arm: fit.optimizer_steps for fit in found.fits}
    assert steps["success"] == steps["nat"]
    assert {fit.arm: set(fit.label_mix) for fit in found.fits} == {
        "success": {"success"},
        "nat": {"success", "wrong_answer"},
    }
    guards = next(fit.guards for fit in found.fits if fit.arm == "nat")
    assert guards is not None
    assert guards.kl > 0
    assert guards.losses != guards.losses_before
    (rerank,) = [run for run in found.runs if run.decoding == "best-of"]
    assert set(rerank.chosen) == {"majority", "logprob", "contrast", "contrast-vote", "any"}
    assert rerank.tasks == len(rerank.outcomes) == len(rerank.chosen["contrast"]) == 6
    report = make_report(lab.recipe.place.experiment, found)
    assert report.missing == report.older == ()
    assert "nat · wrong − nat" in page(report)
    assert open_lab(file).missing() == []
    # What was committed is enough: neither the working folder nor its models are needed again.
    assert open_lab(file, work=tmp_path / "elsewhere").missing() == []


@pytest.mark.slow
def test_changed_input_remakes_what_stands_behind_it_and_nothing_else(tmp_path: Path, kit: Kit) -> None:
    file = write_experiment(tmp_path / "e", kit, text=SMALL)
    run_lab(open_lab(file), tmp_path)
    file.write_text(SMALL.replace("tasks = 6", "tasks = 5"), encoding="utf-8")
    again = open_lab(file)
    assert [step.title.split(",")[0] for step in again.missing() if step.kind == "runs"] == ["measure nat"]
    run_lab(again, tmp_path)
    assert {run.tasks for run in read_all(again.results).runs if run.decoding == "best-of"} == {5}
    file.write_text(SMALL.replace("learning_rate = 0.01", "learning_rate = 0.011"), encoding="utf-8")
    kinds = [(step.kind, step.arm.name if step.arm else None) for step in open_lab(file).missing()]
    assert ("fit", "nat") in kinds
    assert ("fit", "success") in kinds
    measured = {step.cell.arm.name for step in open_lab(file).missing() if step.cell}
    assert measured == {"success", "nat"}


@pytest.mark.slow
def test_an_experiment_goes_on_in_the_store_of_an_older_koboshi(tmp_path: Path, kit: Kit) -> None:
    lab = open_lab(write_experiment(tmp_path / "e", kit, text=SMALL))
    run_lab(lab, tmp_path)
    shown = lab.recipe.place.folder("demonstrations", lab.recipe.seeded_key) / "traces.db"
    with closing(sqlite3.connect(shown)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    (lab.results / "seeded.s0.sevens.greedy.json").unlink()
    assert run_lab(lab, tmp_path) > 0
    assert lab.missing() == []


@pytest.mark.slow
def test_seeds_of_the_chain_have_a_seeded_model_and_a_pool_each(tmp_path: Path, kit: Kit) -> None:
    text = EXPERIMENT.replace("seeds = [0, 1]", 'seeds = [0, 1]\nseeds_of = "chain"')
    lab = open_lab(write_experiment(tmp_path / "e", kit, text=text))
    titles = [step.title for step in lab.missing()]
    assert [title for title in titles if title.startswith("train the")] == [
        "train the seeded model, seed 0",
        "train the seeded model, seed 1",
    ]
    assert run_lab(lab, tmp_path) == len(titles) == len(set(titles))
    found = read_all(lab.results)
    assert [pool.seed for pool in found.pools] == [0, 1]
    assert len({pool.key for pool in found.pools}) == 2
    seeded = {run.seed: run.model_hash for run in found.runs if run.arm == "seeded"}
    assert sorted(seeded) == [0, 1]
    assert len(set(seeded.values())) == 2
    assert {run.seed for run in found.runs if run.arm == "base"} == {0}
    report = make_report(lab.recipe.place.experiment, found)
    assert report.missing == report.older == ()
    assert "Pool of seed 1: " in page(report)
    assert open_lab(lab.results.with_suffix(".toml")).missing() == []


def test_steps_that_were_there_already_say_nothing_of_the_time_left() -> None:
    screen = LabScreen({"made before": 100.0, "to come": 50.0})
    screen.begin("made before")
    screen.end()
    screen.begin("to come")
    assert screen.seconds_left(0.0) == pytest.approx(50.0, abs=5.0)


def test_report_says_what_lacks_and_what_is_older(tmp_path: Path, kit: Kit) -> None:
    file = write_experiment(tmp_path / "e", kit, text=SMALL)
    lab = open_lab(file)
    lab.results.mkdir()
    (lab.results / "nat.s0.sevens.greedy.json").write_text(json.dumps(_run("nat", "1100")), encoding="utf-8")
    (lab.results / "success.s0.sevens.greedy.json").write_text(json.dumps(_run("success", "1000")), encoding="utf-8")
    report = make_report(lab.recipe.place.experiment, read_all(lab.results))
    assert "base on sevens (greedy)" in report.missing
    assert report.older == ("nat, seed 0", "success, seed 0")
    (row,) = [row for row in report.tables[0].rows if row.arm == "nat"]
    assert row.success.value == 0.5
    assert row.over_reference is not None
    assert row.over_reference.value == 0.25
    assert row.invalid_call_rate == pytest.approx(0.1)


def test_report_command_draws_what_it_tells(tmp_path: Path, kit: Kit) -> None:
    file = write_experiment(tmp_path / "e", kit, text=SMALL)
    results = file.with_suffix("")
    results.mkdir()
    for arm, outcomes in (("nat", "1100"), ("success", "1000")):
        (results / f"{arm}.s0.sevens.greedy.json").write_text(json.dumps(_run(arm, outcomes)), encoding="utf-8")
    done = CliRunner().invoke(lab_command, ["report", str(file), "--log", str(tmp_path / "log.md")])
    assert "| nat | 4 × 1 | 50.0 %" in done.stdout
    assert (results / "report.md").read_text(encoding="utf-8").startswith(done.stdout.rstrip("\n"))
    assert (results / "sevens.png").read_bytes().startswith(b"\x89PNG")
    assert "Does a model learn to say 7?" in (tmp_path / "log.md").read_text(encoding="utf-8")
    empty = CliRunner().invoke(lab_command, ["report", str(file), "--results", str(tmp_path / "none")])
    assert isinstance(empty.exception, KoboshiError)


def test_log_entry_is_written_once_and_replaced_where_it_stands(tmp_path: Path, kit: Kit) -> None:
    file = write_experiment(tmp_path / "e", kit, text=SMALL)
    report = make_report(open_lab(file).recipe.place.experiment, read_all(tmp_path))
    log = tmp_path / "log.md"
    log.write_text("# Lab log\n\nfirst\n", encoding="utf-8")
    for date in ("2026-01-01", "2026-01-02"):
        write_log(log, report.name, log_entry(report, date=date, command="koboshi lab run sevens.toml"))
        log.write_text(log.read_text(encoding="utf-8") + ("later\n" if date.endswith("1") else ""), encoding="utf-8")
    text = log.read_text(encoding="utf-8")
    assert text.startswith("# Lab log\n\nfirst\n")
    assert text.endswith("later\n")
    assert (text.count("2026-01-01"), text.count("2026-01-02")) == (0, 1)


def test_damaged_result_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.s0.x.greedy.json").write_text('{"kind": "runs"}', encoding="utf-8")
    with pytest.raises(KoboshiError, match=r"a\.s0\.x\.greedy\.json"):
        read_all(tmp_path)


def test_data_that_was_not_given_is_named(tmp_path: Path, kit: Kit) -> None:
    text = SMALL.replace('{ file = "test.jsonl" }', '{ gsm8k = "data:gsm8k/test.jsonl" }')
    file = write_experiment(tmp_path / "e", kit, text=text)
    done = CliRunner().invoke(lab_command, ["run", str(file), "--plan", "--work", str(tmp_path / "work")])
    assert isinstance(done.exception, KoboshiError)
    assert done.exception.hint == "Pass --data gsm8k=DIR."


def test_project_that_nobody_agreed_to_is_not_copied(tmp_path: Path, kit: Kit) -> None:
    file = write_experiment(tmp_path / "e", kit, text=SMALL)
    tools = tmp_path / "e" / "project" / "tools"
    tools.mkdir()
    (tools / "mine.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    place = open_lab(file).recipe.place
    with pytest.raises(UntrustedError, match="mine"):
        place.project(place.experiment.project)
    assert list((tmp_path / "e" / "work" / "projects").glob("*")) == []


def _run(arm: str, outcomes: str) -> dict[str, object]:
    return {
        "kind": "runs",
        "key": "sha256:k",
        "experiment": "sha256:of another version",
        "arm": arm,
        "seed": 0,
        "evaluation": "sevens",
        "decoding": "greedy",
        "model_hash": "sha256:m",
        "tasks": len(outcomes),
        "tasks_hash": "sha256:t",
        "samples": 1,
        "outcomes": outcomes,
        "calls_begun": 10,
        "invalid_calls": 1,
        "mean_steps": 1.0,
        "output_tokens": 40,
        "seconds": 1.0,
    }
