import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from koboshi_runtime.cli import main

# Runs in every process of the command: no connection to the network, and what was imported is told at the end.
_GUARD = """
import atexit, os, socket, sys

def _guard(event, arguments):
    if event == "socket.connect" and arguments[0].family != socket.AF_UNIX:
        with open(os.environ["GUARD_FILE"], "a") as file:
            file.write(f"connect {arguments[1]}\\n")
        raise RuntimeError("a test may not connect")

def _tell():
    with open(os.environ["GUARD_FILE"], "a") as file:
        file.write(f"torch {'torch' in sys.modules}\\n")

sys.addaudithook(_guard)
atexit.register(_tell)
"""
_CALL_HOME = {
    "LANGSMITH_TRACING": "true",
    "LANGCHAIN_TRACING_V2": "true",
    "LANGSMITH_API_KEY": "a-key",
    "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_DISABLE_TELEMETRY": "0",
}
_MAIN = "from koboshi_runtime.cli import main; main()"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)


def _koboshi(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("arguments", [(), ("hello", "--resume", "@last"), ("hello", "--tasks", "t.jsonl")])
def test_exactly_one_thing_to_run_is_wanted(arguments: tuple[str, ...]) -> None:
    done = _koboshi("run", *arguments)
    assert done.exit_code == 2
    assert "a prompt, --tasks FILE or --resume RUN" in done.stderr


def test_blank_prompt_is_refused() -> None:
    assert _koboshi("run", "  ").exit_code == 2


def test_empty_home_exits_with_one_and_names_the_command_that_adds_a_model() -> None:
    done = _koboshi("run", "hello", "--json")
    error = json.loads(done.stderr)
    assert (done.exit_code, error["exit_code"]) == (1, 1)
    assert "koboshi models add" in error["hint"]
    assert done.stdout == ""


@pytest.mark.parametrize("verb", ["run", "eval"])
def test_bad_task_line_is_refused_by_its_number_before_a_model_is_looked_for(verb: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"id": "a", "prompt": "p", "checker": null}\n{bad\n', encoding="utf-8")
    done = _koboshi(verb, "--tasks", str(file))
    assert done.exit_code == 2
    assert "line 2: not JSON" in done.stderr


@pytest.mark.parametrize("verb", ["run", "eval"])
def test_task_that_cannot_be_judged_here_is_refused_before_a_model_is_looked_for(verb: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    checker = {"kind": "command", "file": "judge.py", "sha256": "0" * 64}
    file.write_text(json.dumps({"id": "a", "prompt": "p", "checker": checker}), encoding="utf-8")
    done = _koboshi(verb, "--tasks", str(file))
    assert done.exit_code == 2
    assert "would run the program 'judge.py'" in done.stderr


def test_run_that_is_not_recorded_cannot_be_resumed() -> None:
    done = _koboshi("run", "--resume", "zzzz")
    assert done.exit_code == 2
    assert "zzzz" in done.stderr


@pytest.mark.slow
@pytest.mark.model
def test_run_imports_no_torch_and_connects_nowhere_whatever_the_environment_says(
    tmp_path: Path, smollm2_gguf: Path
) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(_GUARD, encoding="utf-8")
    told = tmp_path / "told"
    small = {"KOBOSHI_WORKER__PARALLEL": "1", "KOBOSHI_WORKER__CONTEXT_TOKENS": "1024"}
    path = os.pathsep.join([str(guard), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **_CALL_HOME, **small, "PYTHONPATH": path, "GUARD_FILE": str(told)}
    tasks = tmp_path / "tasks.jsonl"
    line = {"id": "sum", "prompt": "What is 2 + 2?", "checker": {"kind": "number", "answer": -1}, "tools": []}
    tasks.write_text(json.dumps(line), encoding="utf-8")

    def koboshi(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", _MAIN, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert koboshi("models", "add", str(smollm2_gguf)).returncode == 0
    done = koboshi("run", "--tasks", str(tasks), "--json", "--fail-on-outcome")
    found = json.loads(done.stdout)
    assert (done.returncode, found["outcome"]) == (1, "failure")
    assert {"run_id", "answer", "outcome", "steps", "model"} <= set(found)
    assert set(told.read_text(encoding="utf-8").splitlines()) == {"torch False"}
