"""`koboshi doctor` on a real model: what it needs, what is refused, and what tuning keeps."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from koboshi_runtime.cli import main
from koboshi_tools.sandbox import probe

pytestmark = [pytest.mark.slow, pytest.mark.model]


@pytest.fixture(scope="module")
def home(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("doctor") / "home"
    added = CliRunner(env={"KOBOSHI_HOME": str(found)}).invoke(main, ["models", "add", str(smollm2_gguf)])
    assert added.exit_code == 0, added.stderr
    return found


def doctor(home: Path, *arguments: str, **variables: str) -> Result:
    environment = {"KOBOSHI_HOME": str(home), **variables}
    return CliRunner(env=environment).invoke(main, ["doctor", "--json", *arguments])


def test_needs_are_said_beside_what_is_there(home: Path) -> None:
    found = doctor(home)
    assert found.exit_code == 0, found.stderr
    needs = {need["what"]: need for need in json.loads(found.stdout)["needs"]}
    assert needs["memory to serve"]["fits"] is True
    # 98 MB of weights, 32,768 cells of 23 kB, and the logits of a batch.
    assert 0.8 < needs["memory to serve"]["needed_gb"] < 1.2


def test_the_hours_of_a_night_are_said(home: Path) -> None:
    hours = json.loads(doctor(home).stdout)["night_hours"]
    assert hours["total"] == pytest.approx(hours["training"] + hours["export"] + hours["gate"])
    # A model of 135M weights: minutes on two quiet cores, and not days on the busiest machine.
    assert 0.05 < hours["total"] < 24
    assert (
        "a night on 300 runs, 300 gate tasks: about "
        in CliRunner(env={"KOBOSHI_HOME": str(home)}).invoke(main, ["doctor"]).stdout
    )


def test_the_kind_of_sandbox_is_said_with_what_is_missing_for_the_others(home: Path) -> None:
    said = json.loads(doctor(home).stdout)["sandbox"]
    assert said == {"kind": probe().mode, "missing": dict(probe().missing)}
    assert f"sandbox: {probe()}" in CliRunner(env={"KOBOSHI_HOME": str(home)}).invoke(main, ["doctor"]).stdout


def test_what_cannot_be_served_is_refused_before_it_is_loaded(home: Path) -> None:
    refused = doctor(home, KOBOSHI_WORKER__PARALLEL="256", KOBOSHI_WORKER__CONTEXT_TOKENS="1000000")
    assert refused.exit_code == 1
    assert "to serve, and there are" in refused.stderr


def test_tuning_is_kept_and_used(home: Path, smollm2_gguf: Path) -> None:
    tuned = doctor(
        home,
        "--tune",
        "--reference",
        str(smollm2_gguf),
        KOBOSHI_WORKER__PARALLEL="2",
        KOBOSHI_WORKER__CONTEXT_TOKENS="512",
    )
    assert tuned.exit_code == 0, tuned.stderr
    report = json.loads(tuned.stdout)
    assert all(trial["agreement"]["top1"] > 0.95 for trial in report["trials"])
    assert report["kept"] in [trial["tuned"] for trial in report["trials"]]
    assert json.loads(doctor(home).stdout)["threads"] == report["kept"]["threads"]
