import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from koboshi_runtime.cli import main, verbs
from koboshi_runtime.cli.context import echo_json, table
from koboshi_runtime.home import open_home

_HEAVY = {"pydantic", "numpy", "rich", "sqlite_utils", "langgraph", "langsmith", "torch", "transformers", "llama_cpp"}
_LIST_MODULES = """
import sys
try:
    from koboshi_runtime.cli import main
    main(["--help"])
except SystemExit:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)


def _koboshi(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _LIST_MODULES], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    assert _HEAVY & set(done.stderr.split()) == set()


@pytest.mark.parametrize("verb", ["run", "chat"])
def test_a_worker_is_started_before_anything_heavy_is_imported(verb: str) -> None:
    code = f"import sys, koboshi_runtime.cli.{verb}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (_HEAVY | {"asyncio"}) & set(done.stdout.split()) == set()


def test_help_names_every_verb() -> None:
    shown = _koboshi("--help").output
    assert [name for name in verbs.VERBS if f"  {name} " not in shown] == []


def test_without_arguments_the_help_is_shown() -> None:
    done = _koboshi()
    assert (done.exit_code, done.output) == (0, _koboshi("--help").output)


def test_the_version_is_the_distributions() -> None:
    assert _koboshi("--version").output == f"koboshi {version('koboshi')}\n"


@pytest.mark.parametrize("name", sorted(verbs.VERBS))
def test_every_row_of_the_table_imports_and_says_what_its_command_says(name: str) -> None:
    command = verbs.load(name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == verbs.VERBS[name].help


def test_a_mistyped_verb_is_wrong_usage_with_the_nearest_one() -> None:
    done = _koboshi("modles")
    assert done.exit_code == 2
    assert "Did you mean 'models'?" in done.stderr


def test_a_mistyped_verb_of_a_noun_is_named_with_the_nearest_one() -> None:
    done = _koboshi("models", "lst")
    assert done.exit_code == 2
    assert "No such command 'lst'" in done.stderr
    assert "list" in done.stderr


def test_a_bare_noun_lists() -> None:
    assert _koboshi("models").output == _koboshi("models", "list").output
    assert json.loads(_koboshi("models", "--json").output) == []


def test_an_error_is_a_message_and_a_hint_on_stderr() -> None:
    done = _koboshi("models", "show")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: there is no current model\nhint: Add the default model with: koboshi models add\n"


def test_under_json_an_error_is_one_object_on_stderr() -> None:
    done = _koboshi("models", "show", "--json")
    assert json.loads(done.stderr) == {
        "error": "there is no current model",
        "hint": "Add the default model with: koboshi models add",
        "exit_code": 1,
    }


def test_wrong_usage_under_json_is_an_object_too() -> None:
    done = _koboshi("models", "show", "--json", "--nonsense")
    assert (done.exit_code, json.loads(done.stderr)["exit_code"]) == (2, 2)


def test_an_error_that_quotes_a_terminal_escape_cannot_use_it() -> None:
    assert "\x1b" not in _koboshi("models", "show", "\x1b[2J-name").stderr


def test_an_interrupt_leaves_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "load", lambda name: interrupted)
    done = _koboshi("run")
    assert (done.exit_code, done.stderr.strip()) == (130, "error: interrupted")


def test_the_exit_code_that_a_command_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @click.pass_context
    def failing(context: click.Context) -> None:
        context.exit(1)

    monkeypatch.setattr(verbs, "load", lambda name: failing)
    assert _koboshi("run").exit_code == 1


def test_an_unexpected_exception_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(verbs, "load", lambda name: broken)
    assert isinstance(_koboshi("run").exception, ZeroDivisionError)


@pytest.mark.parametrize("order", [("-C", "p", "config", "show"), ("config", "-C", "p"), ("config", "show", "-C", "p")])
def test_the_project_may_be_named_before_or_after_the_verb(tmp_path: Path, order: tuple[str, ...]) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "koboshi.toml").write_text("[run]\nseed = 41\n", encoding="utf-8")
    assert json.loads(_koboshi(*order, "--json").output)["run.seed"] == 41


def test_a_folder_without_a_project_is_refused_where_one_was_named(tmp_path: Path) -> None:
    done = _koboshi("config", "-C", str(tmp_path))
    assert done.exit_code == 2
    assert f"koboshi init {tmp_path}" in done.stderr


def test_config_says_where_each_value_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBOSHI_RUN__SEED", "7")
    lines = _koboshi("config", "show", "--origin").output.splitlines()
    assert "run.seed\t7\tKOBOSHI_RUN__SEED" in lines
    assert "run.top_p\t1.0\tdefault" in lines


def test_a_verb_of_another_distribution_is_listed_unloaded_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "plug-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n", encoding="utf-8")
    points = "[koboshi.commands]\nbump = plug:bump\nmodels = plug:bump\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    code = "import click\n\n@click.command()\ndef bump():\n    click.echo('bumped')\n"
    (info.parent / "plug.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(info.parent))
    assert "bump" in _koboshi("--help").output
    assert "plug" not in sys.modules
    assert _koboshi("bump").output == "bumped\n"
    assert verbs.load("models") is not verbs.load("bump")
    monkeypatch.delitem(sys.modules, "plug")


def test_telemetry_is_off_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LANGSMITH_TRACING", "true"), ("LANGSMITH_API_KEY", "k"), ("HF_HUB_OFFLINE", "0")):
        monkeypatch.setenv(name, value)
    _koboshi("--version")
    assert [os.environ.get(name) for name in ("LANGSMITH_TRACING", "LANGSMITH_API_KEY", "HF_HUB_OFFLINE")] == [
        "false",
        None,
        "1",
    ]


def test_a_piped_table_is_tab_separated_and_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    table(("a", "b"), [("1", "x\ny\tz")])
    assert capsys.readouterr().out == "a\tb\n1\tx\\ny\\tz\n"


def test_json_is_one_line_of_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"text": "é\u202e\n"})
    assert capsys.readouterr().out == '{"text": "\\u00e9\\u202e\\n"}\n'


def test_a_command_makes_the_home_it_needs(tmp_path: Path) -> None:
    _koboshi("models")
    assert open_home(create=False).root == tmp_path / "home"
