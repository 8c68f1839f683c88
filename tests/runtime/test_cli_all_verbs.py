"""Every verb of the command line, ours and the trainer's: its help, its JSON, and what it says to a wrong value.

A verb that is added is walked by itself; one that prints JSON has to stand in `HERE`, or in `ELSEWHERE` beside the test
that reads its JSON on a real model.
"""

import getpass
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner, Result
from tests.runtime.store_samples import OK, header, record

from koboshi_runtime.cli import main, verbs
from koboshi_runtime.cli.completing import MODEL, RUN
from koboshi_runtime.home import open_home
from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource
from koboshi_runtime.store import Store
from koboshi_runtime.templates_init import init_project
from koboshi_runtime.trust import pin_new

ROOT = Path(__file__).parents[2]
TASK = '{"id": "t", "prompt": "2 + 2?", "checker": {"kind": "number", "answer": "4"}}'
CHAT = '{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}'

HERE = {
    "approvals list": "",
    "backup": "kept",
    "config show": "",
    "db check": "",
    "db path": "",
    "gc": "--dry-run",
    "init": "fresh",
    "lab tasks canaries": "--out canaries",
    "models list": "",
    "nightly status": "",
    "outcome queue": "",
    "outcome set": "@last success",
    "outcome undo": "bbbb",
    "policy check": "",
    "policy explain": "calculator {}",
    "policy replay": "",
    "policy shadow": "",
    "policy test": "",
    "ps": "",
    "tasks add": f"'{TASK}'",
    "tasks from-runs": "--dry-run",
    "tasks list": "",
    "tools list": "",
    "tools show": "calculator",
    "tools success": "",
    "tools swap": "",
    "traces diff": "aaaa bbbb",
    "traces forget": "@last",
    "traces import": "chat.jsonl",
    "traces list": "",
    "traces search": "apples",
    "traces show": "@last",
    "trust": "",
    "why": "@last",
}
"""What each is given, in a project with two recorded runs and no model."""

ELSEWHERE = {
    "approvals grant": "tests/runtime/test_approvals.py",
    "approvals refuse": "tests/runtime/test_approvals.py",
    "eval": "tests/e2e/test_models.py",
    "chat": "tests/faults/test_f14_together.py",
    "doctor": "tests/runtime/test_doctor.py",
    "models add": "tests/e2e/test_models.py",
    "models promote": "tests/e2e/test_models.py",
    "models rollback": "tests/e2e/test_models.py",
    "models show": "tests/e2e/test_models.py",
    "run": "tests/e2e/test_models.py",
    "restore": "tests/runtime/test_cli_all_verbs.py",
    "stop": "tests/e2e/test_serve.py",
    "tools accept": "tests/tools/test_tools_command.py",
    "tools rollback": "tests/runtime/test_tool_swaps.py",
    "traces blame": "tests/e2e/test_models.py",
    "traces replay": "tests/e2e/test_models.py",
}
LONG = {"bench", "demo", "lab", "nightly", "train"}
"""Take minutes and more: their own tests read what they came to."""

NO_RESULT = {"completion", "nightly install-timer", "nightly remove-timer", "serve", "traces export", "tui"}


class Verb(NamedTuple):
    """A command that does something, at its path."""

    path: str
    command: click.Command

    @property
    def words(self) -> list[str]:
        return self.path.split()


def _walk(group: click.Group, path: str = "") -> Iterator[Verb]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        here = f"{path} {name}".strip()
        yield Verb(here, command)
        if isinstance(command, click.Group):
            yield from _walk(command, here)


ALL = [
    verb
    for verb in _walk(main)
    if verb.words[0] in verbs.VERBS or verbs.plugged()[verb.words[0]].value.startswith("koboshi_")
]
LEAVES = [verb for verb in ALL if not isinstance(verb.command, click.Group)]
NOUNS = [verb for verb in ALL if isinstance(verb.command, click.Group) and not verb.command.params[:-1]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trusted project, which is the working folder, and a home with two runs and no model."""
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    home = open_home()
    project = init_project(tmp_path / "place")
    pin_new(home, project.root)
    monkeypatch.chdir(project.root)
    (project.root / "chat.jsonl").write_text(CHAT + "\n", encoding="utf-8")
    (project.root / "t.jsonl").write_text(TASK + "\n", encoding="utf-8")
    store = Store.open(home.traces)
    record(store, "aaaa111122223333", header("Count apples"), calls=(("calculator", OK),))
    record(store, "bbbb111122223333", header("Count pears"))
    said = Outcome(label=OutcomeLabel.FAILURE, source=OutcomeSource.PERSON, who=getpass.getuser())
    store.add_outcome("bbbb111122223333", said)
    store.close()
    return project.root


def koboshi(*arguments: str) -> Result:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def _words(line: str) -> list[str]:
    return [line[1:-1]] if line.startswith("'") else line.split()


def test_every_verb_says_its_purpose_in_a_line_and_shows_an_example() -> None:
    for verb in ALL:
        shown = koboshi(*verb.words, "--help")
        first = (verb.command.help or "").splitlines()[0]
        assert shown.exit_code == 0, verb.path
        assert 0 < len(first) <= 100, verb.path
        assert first in " ".join(shown.stdout.split()), verb.path
        assert shown.stdout.count("Example: ") == 1, verb.path


def test_a_verb_that_prints_a_result_takes_json_and_is_tried() -> None:
    printing = {verb.path for verb in LEAVES} - NO_RESULT
    without = {verb.path for verb in LEAVES if not any("--json" in option.opts for option in verb.command.params)}
    assert printing & without == set(), "give it --json, or put it in NO_RESULT if it prints none"
    untried = {path for path in printing if path.split()[0] not in LONG} - set(HERE) - set(ELSEWHERE)
    assert untried == set(), "say in HERE what it is given here, or in ELSEWHERE which test reads its JSON"
    unread = [path for path, file in ELSEWHERE.items() if "--json" not in (ROOT / file).read_text(encoding="utf-8")]
    assert unread == []


def test_json_of_every_verb_is_one_value() -> None:
    for path in sorted(HERE):
        done = koboshi(*path.split(), *_words(HERE[path]), "--json")
        assert done.exit_code in (0, 1), f"{path}: {done.output}"
        assert json.loads(done.stdout) is not None, path


def test_a_backup_is_restored_into_another_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert koboshi("backup", "kept").exit_code == 0
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "again"))
    json.loads(koboshi("restore", "kept", "--json").stdout)
    assert len(json.loads(koboshi("traces", "list", "--json").stdout)) == 2


def test_a_bare_noun_lists() -> None:
    shown = {verb.path: koboshi(*verb.words) for verb in NOUNS}
    assert {path for path, done in shown.items() if done.exit_code or "Usage:" in done.output} == {"lab", "lab tasks"}


def test_an_unknown_flag_is_wrong_usage_and_is_named_as_json_too() -> None:
    for verb in LEAVES:
        words = verb.words if verb.path in NO_RESULT else [*verb.words, "--json"]
        done = koboshi(*words, "--nonsense")
        assert (done.exit_code, "--nonsense" in done.stderr) == (2, True), verb.path
        if verb.path not in NO_RESULT:
            assert json.loads(done.stderr)["exit_code"] == 2, verb.path


def test_a_wrong_value_is_wrong_usage_and_is_named() -> None:
    silent = {}
    for verb, parameter, wrong in _wrong_values():
        done = koboshi(*verb.words, *_given(verb.command, parameter, wrong))
        if done.exit_code != 2 or wrong not in done.stderr:
            silent[f"{verb.path} {parameter.name}"] = (done.exit_code, done.stderr)
    assert silent == {}


def _wrong_values() -> Iterator[tuple[Verb, click.Parameter, str]]:
    """Yield every parameter that can be wrong; of options that several verbs of a noun share, one."""
    seen = set()
    for verb in LEAVES:
        for parameter in verb.command.params:
            wrong, key = _wrong(parameter), (verb.words[0], parameter.name, repr(parameter.type))
            # A list of the runs of a model that is not there is empty.
            if wrong is None or key in seen or (verb.path == "traces list" and parameter.type is MODEL):
                continue
            if parameter.type not in (RUN, MODEL):
                seen.add(key)
            yield verb, parameter, wrong


def _wrong(parameter: click.Parameter) -> str | None:
    match parameter.type:
        case click.Choice():
            return "neither-of-them"
        case click.types.IntParamType() | click.types.FloatParamType():
            return "1x7"
        case click.Path(exists=True):
            return "no-such-file"
        case kind if kind in (RUN, MODEL):
            return "zzzz-no-such"
        case _:
            return None


def _given(command: click.Command, tried: click.Parameter, wrong: str) -> list[str]:
    """Return arguments that are right but for `tried`."""
    given = ["x"] if command.name == "run" and tried.name == "model" else []
    for parameter in command.params:
        if parameter is not tried and not parameter.required:
            continue
        value = wrong if parameter is tried else _right(parameter)
        given += [value] if isinstance(parameter, click.Argument) else [parameter.opts[-1], value]
    return given


def _right(parameter: click.Parameter) -> str:
    match parameter.type:
        case click.Choice() as kind:
            return str(kind.choices[0])
        case click.Path(file_okay=False):
            return "out"
        case click.Path():
            return "t.jsonl"
        case kind if kind is RUN:
            return "@last"
        case kind if kind is MODEL:
            return "current"
        case _:
            return "x"
