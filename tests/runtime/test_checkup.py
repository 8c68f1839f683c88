"""What `koboshi doctor` looks at besides the model: what is found, and the command that mends it."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.store_samples import header, record

from koboshi_runtime.cli import main
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.house.checkup import Check, checks, gpu
from koboshi_runtime.store import Store

NVIDIA, AMD = Path("/dev/nvidia0"), Path("/dev/kfd")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


def state(home: Home, what: str, *, budget_gb: float = 50) -> Check:
    return {check.what: check for check in checks(home, gpu_layers=0, budget_gb=budget_gb)}[what]


def test_a_graphics_card_that_llama_cpp_was_not_built_for_is_said_with_the_command() -> None:
    found = gpu([NVIDIA], ["base", "cpu"], 0)
    assert (found.state, found.said) == ("warn", "GPU found (NVIDIA), llama.cpp built for CPU")
    assert found.run.startswith('CMAKE_ARGS="-DGGML_CUDA=on" pip install')
    assert "-DGGML_HIP=on" in gpu([AMD], ["base", "cpu", "cuda"], 0).run


def test_a_build_that_fits_is_told_to_use_the_card_and_is_then_content() -> None:
    assert "GPU_LAYERS" in gpu([NVIDIA], ["cpu", "cuda"], 0).run
    assert gpu([NVIDIA], ["cpu", "vulkan"], 99).state == "ok"
    assert gpu([], ["cpu"], 0) == Check(what="gpu", state="ok", said="none found, llama.cpp works on the processor")


def test_a_home_without_runs_is_well(home: Home) -> None:
    assert [check for check in checks(home, gpu_layers=0, budget_gb=50) if check.state == "bad"] == []


def test_a_damaged_store_is_found(home: Home) -> None:
    with closing(Store.open(home.traces)) as store:
        for number in range(40):
            record(store, f"run{number:013}", header(), text="words " * 200)
    assert state(home, "store").said.startswith("sound: schema")
    data = bytearray(home.traces.read_bytes())
    data[-8192:] = b"\xff" * 8192
    home.traces.write_bytes(data)
    assert state(home, "store").state == "bad"


def test_a_store_of_another_schema_is_said_with_the_way_out(home: Home) -> None:
    Store.open(home.traces).close()
    with closing(sqlite3.connect(home.traces)) as db:
        db.execute("PRAGMA user_version = 3")
    found = state(home, "store")
    assert (found.state, found.run) == ("bad", "koboshi db check")


def test_a_home_over_its_budget_is_warned_of(home: Home) -> None:
    (home.reports / "big").write_bytes(b"x" * 2_000_000)
    assert (state(home, "disk", budget_gb=0.001).state, state(home, "disk").state) == ("warn", "ok")


def test_the_verb_says_all_of_it_also_without_a_model(home: Home) -> None:
    env = os.environ | {"KOBOSHI_HOME": str(home.root)}
    told = CliRunner(env=env).invoke(main, ["doctor"])
    assert told.exit_code == 1
    assert "there is no current model" in told.stderr
    assert "sqlite" in told.stdout
    as_json = json.loads(CliRunner(env=env).invoke(main, ["doctor", "--json"]).stdout)
    assert {check["what"] for check in as_json["checks"]} >= {"store", "disk", "gpu", "sandbox", "sqlite", "mcp"}
