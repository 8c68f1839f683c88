"""A project from elsewhere has nothing run before somebody agreed to exactly what it is."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from koboshi_runtime.cli import main
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.project import load_project
from koboshi_runtime.trust import UntrustedError, kept_trusted, pin_new, require_trust, trust_state
from koboshi_tools import UsageError

MARK = "ran"
TOOL = f"from pathlib import Path\n(Path(__file__).parents[1] / '{MARK}').touch()\n" + (
    'from koboshi_tools import tool\n\n@tool\ndef hello() -> str:\n    """Say hello."""\n    return "hello"\n'
)
RULES = '[[rule]]\ntools = ["*"]\nverdict = "allow"\n'
SERVERS = {"mcpServers": {"files": {"command": "node", "args": ["server.js", "."], "env": {"TOKEN": "${TOKEN}"}}}}
JUDGED = '{"id": "a", "prompt": "Go.", "checker": {"kind": "command", "file": "judge.sh", "arguments": ["%s"]}}\n'
FILES = {
    "koboshi.toml": '[agent]\nname = "theirs"\n',
    "tools/hello.py": TOOL,
    "policies/all.toml": RULES,
    "checks/judge.sh": "#!/bin/sh\nexit 0\n",
    "mcp.json": json.dumps(SERVERS),
    "tasks/train.jsonl": JUDGED % "kind",
}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    root = tmp_path / "theirs"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def _koboshi(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def _agree(root: Path) -> None:
    found = json.loads(_koboshi("trust", "-C", str(root), "--json").stdout)
    assert _koboshi("trust", "-C", str(root), "--hash", found["hash"]).exit_code == 0


@pytest.mark.parametrize("verb", [("tools",), ("run", "Go."), ("eval", "--tasks", "theirs/tasks/train.jsonl")])
def test_project_that_nobody_agreed_to_is_refused_and_none_of_its_code_runs(theirs: Path, verb: tuple[str]) -> None:
    done = _koboshi(*verb, "-C", str(theirs))
    assert done.exit_code == 3
    assert f"koboshi trust -C {theirs}" in done.stderr
    assert not (theirs / MARK).exists()


def test_showing_a_project_names_all_that_it_brings_and_runs_none_of_it(theirs: Path) -> None:
    done = _koboshi("trust", "-C", str(theirs))
    assert done.exit_code == 3
    for told in (
        "tools/hello.py",
        "policies/all.toml",
        "checks/judge.sh",
        "node server.js . with TOKEN",
        "judge.sh kind",
    ):
        assert told in done.stdout
    assert not (theirs / MARK).exists()


def test_agreed_project_contributes(theirs: Path) -> None:
    _agree(theirs)
    assert "hello" in _koboshi("tools", "-C", str(theirs)).stdout
    assert _koboshi("trust", "-C", str(theirs)).exit_code == 0


def test_hash_of_something_else_agrees_to_nothing(theirs: Path) -> None:
    done = _koboshi("trust", "-C", str(theirs), "--hash", "sha256:" + "0" * 64)
    assert done.exit_code == 2
    assert _koboshi("tools", "-C", str(theirs)).exit_code == 3


def _rewrite(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_rewrite("koboshi.toml", '[agent]\nsystem_prompt = "Obey."\n'), "koboshi.toml"),
        (_rewrite("tools/hello.py", TOOL + "\n"), "tools/hello.py"),
        (_rewrite("tools/_helper.py", "x = 1\n"), "tools/_helper.py"),
        (_rewrite("policies/more.toml", RULES), "policies/more.toml"),
        (_rewrite("checks/judge.sh", "#!/bin/sh\nexit 1\n"), "checks/judge.sh"),
        (lambda root: (root / "checks/judge.sh").chmod(0o755), "checks/judge.sh"),
        (_rewrite("mcp.json", json.dumps(SERVERS).replace("node", "deno")), "files"),
        (_rewrite("server.js", "// in the workspace's parent, and named by nobody"), ""),
        (_rewrite("tasks/train.jsonl", JUDGED % "cruel"), "judge.sh cruel"),
        (_rewrite("tasks/dev.jsonl", '{"id": "b", "prompt": "Hi.", "checker": null}\n'), ""),
        (lambda root: (root / "policies/all.toml").unlink(), "policies/all.toml"),
    ],
)
def test_change_of_what_acts_asks_again_and_other_changes_do_not(
    theirs: Path, change: Callable[[Path], object], named: str
) -> None:
    _agree(theirs)
    change(theirs)
    done = _koboshi("tools", "-C", str(theirs))
    assert done.exit_code == (3 if named else 0)
    assert named in done.stderr


def test_server_file_of_the_project_that_a_command_line_names_is_pinned(theirs: Path) -> None:
    servers = {"mcpServers": {"own": {"command": "python3", "args": ["servers/own.py"], "cwd": "."}}}
    (theirs / "servers").mkdir()
    for name, text in (("servers/own.py", "a"), ("mcp.json", json.dumps(servers))):
        (theirs / name).write_text(text, encoding="utf-8")
    _agree(theirs)
    (theirs / "servers/own.py").write_text("b", encoding="utf-8")
    assert "MCP server own" in _koboshi("tools", "-C", str(theirs)).stderr


def test_names_that_would_act_on_a_terminal_are_shown_as_what_they_are(theirs: Path) -> None:
    (theirs / "checks/\x1b[2J\u202e[bold].sh").write_text("", encoding="utf-8")
    servers = {"mcpServers": {"own": {"command": "\x1b]0;x\x07", "args": ["a\nb"]}}}
    (theirs / "mcp.json").write_text(json.dumps(servers), encoding="utf-8")
    done = _koboshi("trust", "-C", str(theirs))
    assert r"\x1b[2J\u202e[bold].sh" in done.stdout
    assert not any(mark in done.output for mark in ("\x1b", "\u202e", "\x07", "a\nb"))


def test_link_among_the_tools_is_refused(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(TOOL, encoding="utf-8")
    (theirs / "tools/other.py").symlink_to(tmp_path / "other.py")
    done = _koboshi("trust", "-C", str(theirs))
    assert (done.exit_code, "other.py is a link" in done.stderr) == (2, True)


def test_project_that_only_brings_a_prompt_and_tasks_needs_no_trust(home: Home, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/koboshi.toml").write_text('[agent]\nsystem_prompt = "Be kind."\n', encoding="utf-8")
    require_trust(home, load_project(tmp_path / "plain"))
    assert "nothing that would run" in _koboshi("trust", "-C", "plain").stderr


def test_settings_of_a_tool_need_trust(home: Home, tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide/koboshi.toml").write_text('[tools.http_get]\nhosts = ["*"]\n', encoding="utf-8")
    with pytest.raises(UntrustedError, match="tool settings http_get"):
        require_trust(home, load_project(tmp_path / "wide"))


def test_project_made_here_is_trusted_until_it_changes(tmp_path: Path) -> None:
    assert _koboshi("init", "mine").exit_code == 0
    assert _koboshi("tools", "-C", "mine").exit_code == 0
    (tmp_path / "mine/tools/hello.py").write_text(TOOL, encoding="utf-8")
    assert _koboshi("tools", "-C", "mine").exit_code == 3


def test_copy_of_a_trusted_project_is_another_project(theirs: Path, tmp_path: Path) -> None:
    _agree(theirs)
    theirs.rename(tmp_path / "moved")
    assert _koboshi("tools", "-C", "moved").exit_code == 3


def test_pin_that_says_another_folder_or_nothing_readable_is_none(home: Home, theirs: Path) -> None:
    pin_new(home, theirs)
    (path,) = home.trust.iterdir()
    path.write_text(path.read_text(encoding="utf-8").replace("theirs", "others", 1), encoding="utf-8")
    assert not trust_state(home, load_project(theirs)).trusted
    path.write_bytes(b"{")
    assert not trust_state(home, load_project(theirs)).trusted


def test_forgotten_project_is_refused_again(theirs: Path) -> None:
    _agree(theirs)
    assert "no longer trusted" in _koboshi("trust", "-C", str(theirs), "--forget").stderr
    assert _koboshi("tools", "-C", str(theirs)).exit_code == 3


def test_change_by_koboshi_itself_keeps_trust_and_makes_none(home: Home, theirs: Path) -> None:
    def add(text: str) -> None:
        with kept_trusted(home, load_project(theirs)):
            (theirs / "policies/more.toml").write_text(text, encoding="utf-8")

    add(RULES)
    assert not trust_state(home, load_project(theirs)).trusted
    pin_new(home, theirs)
    add(RULES + "\n")
    assert trust_state(home, load_project(theirs)).trusted


def test_bad_server_file_cannot_be_agreed_to(theirs: Path, home: Home) -> None:
    (theirs / "mcp.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="names no servers"):
        pin_new(home, theirs)


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 3)])
def test_person_at_a_terminal_is_asked(theirs: Path, answer: bytes, code: int) -> None:
    program = str(Path(sys.executable).parent / "koboshi")
    ours, child = pty.openpty()
    os.write(ours, answer)
    with subprocess.Popen(
        [program, "tools", "-C", str(theirs)], stdin=child, stdout=subprocess.PIPE, stderr=child
    ) as asked:
        os.close(child)
        assert asked.wait(60) == code
    os.close(ours)
    assert (theirs / MARK).exists() == (code == 0)
