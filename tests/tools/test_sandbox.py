"""Tools in their sandbox: what they are given, what they answer, and what ends them."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from tests.tools.sandbox_makers import call, sandbox, workspace, written  # noqa: F401

from koboshi_tools import Sandbox, ToolCall, ToolContext, ToolVerdict, Transport, UsageError, execute, tool
from koboshi_tools.sandbox import Mode, Probe, SandboxProfile, keepers, probe

ECHO = '''
@tool(effect="write")
def echo(text: str, context: ToolContext, loud: bool = False) -> str:
    """Echo."""
    (context.workspace / "echoed").write_text(text)
    return f"{text} {loud} {context.settings['key']} {context.workspace}"
'''


def test_this_machine_has_a_sandbox_and_says_why_not_the_others() -> None:
    found = probe()
    assert found.available, found.missing
    assert found.mode is found.available[0]
    assert set(found.missing) == set(Mode) - set(found.available)


def test_a_tool_gets_its_arguments_its_context_and_its_workspace(
    sandbox: Sandbox,  # noqa: F811
    workspace: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    made = written(tmp_path / "tools", ECHO)["echo"]
    result = call(sandbox, workspace, made, text="é€", loud=True, settings={"key": [1]})
    assert result.output == f"é€ True [1] {workspace}"
    assert (workspace / "echoed").read_text(encoding="utf-8") == "é€"


HOWS = '''
@tool(effect="write")
def fail(how: str) -> str:
    """Fail."""
    match how:
        case "tool error": raise ToolError("no such order")
        case "value": raise ValueError("bad")
        case "exit": raise SystemExit(3)
        case "hard exit": import os; os._exit(7)
        case "crash": import os; os.abort()
        case "memory": return "x" * (3 << 30)
        case "unfit": return object()
        case "long": return "é" * 5000
        case "lone": return "a\\ud800b"
        case "print": print("seen?"); return "said"
'''


@pytest.mark.parametrize(
    ("how", "transport", "said"),
    [
        ("tool error", Transport.OK, "no such order"),
        ("value", Transport.ERROR, "ValueError: bad"),
        ("exit", Transport.ERROR, "SystemExit: 3"),
        ("hard exit", Transport.ERROR, "the call ended without an answer"),
        ("crash", Transport.ERROR, "the call was ended: it was ended by SIGABRT"),
        ("memory", Transport.ERROR, "MemoryError: "),
        ("unfit", Transport.ERROR, "TypeError: the tool returned object, which is neither text nor JSON"),
        ("long", Transport.OK, "é" * 2000),
        ("lone", Transport.OK, "a?b"),
        ("print", Transport.OK, "said"),
    ],
)
def test_however_a_tool_ends_is_a_result(
    sandbox: Sandbox,  # noqa: F811
    workspace: Path,  # noqa: F811
    tmp_path: Path,
    how: str,
    transport: Transport,
    said: str,
) -> None:
    result = call(sandbox, workspace, written(tmp_path / "tools", HOWS)["fail"], how=how)
    assert (result.transport, result.output) == (transport, said)
    assert result.truncated == (how == "long")


def test_the_environment_is_the_calls_own(
    sandbox: Sandbox,  # noqa: F811
    workspace: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("API_TOKEN", "secret-token")
    result = call(sandbox, workspace, "shell", command='env; echo "$HOME" > "$TMPDIR/x"; cat "$TMPDIR/x"')
    assert "API_TOKEN" not in result.output
    assert result.verdict is ToolVerdict.OK


def test_only_a_tool_that_writes_can_write_and_only_exec_starts_programs(
    sandbox: Sandbox,  # noqa: F811
    workspace: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    text = "\n".join(
        f"""
@tool(effect="{effect}", sandbox=True)
def {effect}_one(what: str, context: ToolContext) -> str:
    '''Do.'''
    import subprocess
    if what == "write":
        (context.workspace / "made by {effect}").write_text("x")
    else:
        subprocess.run(["/bin/true"], check=True)
    return what
"""
        for effect in ("read", "write", "net", "exec")
    )
    made = written(tmp_path / "tools", text)
    could = {
        (effect, what): call(sandbox, workspace, made[f"{effect}_one"], what=what).transport is Transport.OK
        for effect in ("read", "write", "net", "exec")
        for what in ("write", "run")
    }
    assert {pair for pair, done in could.items() if done} == {("write", "write"), ("exec", "write"), ("exec", "run")}
    assert {path.name for path in workspace.glob("made by *")} == {"made by write", "made by exec"}


def test_a_call_that_takes_too_long_is_ended_with_all_that_it_started(
    sandbox: Sandbox,  # noqa: F811
    workspace: Path,  # noqa: F811
) -> None:
    (workspace / "alive").unlink(missing_ok=True)
    command = "mkfifo alive; (exec 3> alive; read never < /dev/zero; while :; do :; done) & read forever < alive"
    result = call(sandbox, workspace, "shell", command=command, timeout_s=0.5)
    assert (result.transport, result.output) == (Transport.TIMEOUT, "shell gave no answer within 0.5 s")
    # Nobody holds the other end of the pipe any more: opening it for writing finds no reader.
    with pytest.raises(OSError, match="No such device"):
        os.open(workspace / "alive", os.O_WRONLY | os.O_NONBLOCK)


def test_a_call_whose_caller_is_gone_is_ended(
    sandbox: Sandbox,  # noqa: F811
    workspace: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    fifo = workspace / "begun"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    text = '@tool(effect="write")\ndef hold(context: ToolContext) -> None:\n    """Hold."""\n'
    text += '    open(context.workspace / "begun", "w").write("x")\n    import time; time.sleep(60)\n'
    made = written(tmp_path / "tools", text)["hold"]

    async def main() -> int:
        asked = execute(ToolCall(name="hold", arguments={}), made, ToolContext(workspace), sandbox=sandbox)
        running = asyncio.create_task(asked)
        await asyncio.to_thread(fifo.read_bytes)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return 1

    assert asyncio.run(main()) == 1
    for thread in threading.enumerate():
        if thread.name == "koboshi-tool-hold":
            # It ends as soon as the call has: well before the minute is over.
            thread.join(10)
            assert not thread.is_alive()


def test_a_tool_whose_file_was_loaded_runs_as_it_was_loaded(
    sandbox: Sandbox,  # noqa: F811
    workspace: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    text = '@tool(effect="write")\ndef say() -> str:\n    """Say."""\n    return "{}"\n'
    made = written(tmp_path / "tools", text.format("before"))["say"]
    (tmp_path / "tools" / "own.py").write_text(text.format("after"), encoding="utf-8")
    assert call(sandbox, workspace, made).output == "before"


def test_where_there_is_no_sandbox_the_tool_is_refused_by_name_and_not_run(
    workspace: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none = Probe(None, {Mode.BWRAP: "bwrap is not installed", Mode.LANDLOCK: "no Landlock"})
    monkeypatch.setattr(keepers, "probe", lambda: none)
    result = call(Sandbox(), workspace, "shell", command="touch ran")
    assert (result.transport, result.verdict) == (Transport.DENIED, None)
    assert result.output == (
        "shell was not run: this machine has no sandbox (bwrap: bwrap is not installed; landlock: no Landlock)"
    )
    assert not (workspace / "ran").exists()


def test_a_kind_that_was_asked_for_is_never_replaced_by_another(
    workspace: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keepers, "probe", lambda: Probe(Mode.LANDLOCK, {Mode.BWRAP: "bwrap is not installed"}))
    assert call(Sandbox(Mode.BWRAP), workspace, "shell", command="true").transport is Transport.DENIED


def test_a_workspace_that_holds_the_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "inside"))
    result = call(Sandbox(), tmp_path, "shell", command="ls inside")
    assert result.transport is not Transport.OK
    assert f"a sandbox would reach {tmp_path / 'inside'}, because it lies in {tmp_path}" in result.output


def test_a_tool_that_cannot_be_run_again_elsewhere_says_so_when_it_is_made() -> None:
    def inner(text: str) -> str:
        """Inner."""
        return text

    with pytest.raises(UsageError, match="tool 'inner' needs a sandbox"):
        tool(effect="exec")(inner)
    assert tool(effect="exec", sandbox=False)(inner).profile is None


def test_a_profile_of_its_own_is_part_of_a_tools_digest(tmp_path: Path) -> None:
    text = '@tool(effect="write"{})\ndef say() -> None:\n    """Say."""\n'
    plain = written(tmp_path / "a", text.format(""))["say"]
    wide = written(tmp_path / "a", text.format(", sandbox=SandboxProfile(workspace='none')"))["say"]
    assert wide.profile == SandboxProfile(workspace="none")
    assert plain.digest != wide.digest
