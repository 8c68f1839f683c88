"""What the Tab key offers, asked as the shells ask, and by a real bash."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from tests.runtime.store_samples import header, record

from koboshi_runtime.cli import main, verbs
from koboshi_runtime.cli.completing import MODEL, RUN
from koboshi_runtime.home import open_home
from koboshi_runtime.store import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def runs(home: Path) -> None:
    store = Store.open(open_home().traces)
    record(store, "aaaa111122223333", header("Count\n\x1b[31mapples"))
    record(store, "bbbb111122223333", header("Count pears"))
    store.close()


def offered(*arguments: str) -> dict[str, str | None]:
    """Return what could stand in place of the last argument, with what is said of it."""
    asked = ShellComplete(main, {}, "koboshi", "_KOBOSHI_COMPLETE")
    return {item.value: item.help for item in asked.get_completions(list(arguments[:-1]), arguments[-1])}


def test_verbs_are_offered_with_their_help_and_none_is_imported() -> None:
    assert offered("tra")["traces"] == verbs.VERBS["traces"].help
    code = "import sys; from koboshi_runtime.cli import main; main([])"
    environment = {"_KOBOSHI_COMPLETE": "bash_complete", "COMP_WORDS": "koboshi wh", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "plain,why\n"
    assert "pydantic" not in done.stderr


def test_an_unfinished_noun_offers_what_can_be_done_with_it() -> None:
    assert {"list", "show", "diff", "replay"} <= set(offered("traces", ""))
    assert list(offered("traces", "sh")) == ["show"]
    assert "--outcome" in offered("traces", "list", "--o")
    assert list(offered("traces", "list", "--outcome", "f")) == ["failure"]


@pytest.mark.usefixtures("runs")
def test_runs_are_offered_the_newest_first_with_their_prompt() -> None:
    assert list(offered("why", "")) == ["@last", "bbbb1111", "aaaa1111"]
    assert offered("traces", "diff", "@last", "a") == {"aaaa1111": "Count \\x1b[31mapples"}
    assert list(offered("run", "--resume", "bbbb111122")) == ["bbbb111122"]


def test_where_there_is_no_home_nothing_is_offered_and_none_is_made(home: Path) -> None:
    assert list(offered("why", "a")) == []
    assert list(offered("eval", "--model", "c")) == ["current"]
    assert not home.exists()


def test_what_names_a_run_or_a_model_completes_in_every_verb() -> None:
    silent = [
        f"{path} {parameter.name}"
        for path, command in _commands(main, "koboshi")
        for parameter in command.params
        if _names(parameter) is not None and parameter.type is not _names(parameter)
    ]
    assert silent == []


def test_the_printed_script_completes_in_bash(runs: None) -> None:
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    asked = 'COMP_WORDS=(koboshi traces show b); COMP_CWORD=3; _koboshi_completion koboshi; echo "${COMPREPLY[@]}"'
    program = f"PATH={Path(sys.executable).parent}:$PATH"
    done = subprocess.run(
        ["bash", "-c", f"{program}\n{script}\n{asked}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "bbbb1111\n"


@pytest.mark.parametrize(("shell", "mark"), [("zsh", "#compdef koboshi"), ("fish", "complete --no-files")])
def test_zsh_and_fish_get_scripts_of_their_own(shell: str, mark: str) -> None:
    assert mark in CliRunner().invoke(main, ["completion", shell]).stdout


def _names(parameter: click.Parameter) -> click.ParamType[str] | None:
    called = (parameter.metavar or (parameter.name or "").upper()).strip("[]")
    if called in {"RUN", "RUNS"}:
        return RUN
    return MODEL if called == "REF" else None


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
