"""F22 as far as the server reaches: the agent that it runs, and other users of the machine, get nothing out of it.

Web pages are in `tests/runtime/test_server_guard.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import Served, served

from koboshi_runtime.approvals import approvals
from koboshi_runtime.home import open_home
from koboshi_runtime.presence import api_socket
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.server.listening import listen_at
from koboshi_runtime.server.tokens import Scope, token_path
from koboshi_runtime.trust import pin_new

NOBODY = 65534

# Run by the agent's own tool, or by another user: says for each way in whether it got there.
ATTACK = """
import json, socket, sqlite3, sys, urllib.request
PORT, TOKENS, SOCKET, TRACES = {port}, {tokens!r}, {socket!r}, {traces!r}
got = {{}}

def attempt(name, way):
    try:
        got[name] = way()
    except BaseException as error:
        got[name] = None

def read(path):
    return open(path).read().strip()

def unix():
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(SOCKET)
    return "connected"

def call(path, token, body):
    headers = {{"content-type": "application/json", **({{"authorization": "Bearer " + token}} if token else {{}})}}
    url = "http://127.0.0.1:%d%s" % (PORT, path)
    asked = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    return urllib.request.urlopen(asked, timeout=5).status

def label():
    with sqlite3.connect(TRACES) as db:
        return db.execute("SELECT count(*) FROM runs").fetchone()[0]

for scope, path in TOKENS.items():
    attempt("read the token " + scope, lambda: read(path))
attempt("connect to the UNIX socket", unix)
attempt("open the store", label)
attempt("call without a token", lambda: call("/v1/models", None, None))
attempt("approve", lambda: call("/v1/approvals", got.get("read the token approve"), None))
attempt("label", lambda: call("/v1/outcomes", got.get("read the token label"), {{"run_id": "x", "label": "success"}}))
print(json.dumps(got))
"""
SAFE = {
    "koboshi.toml": '[agent]\nname = "desk"\ntools = ["python", "http_get"]\n',
    "policies/own.toml": '[[rule]]\ntools = ["python", "http_get"]\nverdict = "allow"\nreason = "an attack test"\n',
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, list[str], str]]:
    """A server whose scripted agent plays what the list holds, and the attack on it."""
    home, root, replies = open_home(path=tmp_path / "home"), tmp_path / "project", list[str]()
    monkeypatch.setenv("KOBOSHI_HOME", str(home.root))
    for name, text in SAFE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    pin_new(home, root)
    with listen_at(api_socket(home)), served(tmp_path, ScriptedModel(lambda _: replies.pop(0)), root) as running:
        attack = ATTACK.format(
            port=running.port,
            tokens={str(scope): str(token_path(home, scope)) for scope in Scope},
            socket=str(api_socket(home)),
            traces=str(home.traces),
        )
        yield running, replies, attack


def call(tool: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': tool, 'arguments': arguments})}\n</tool_call>"


def carried_out(server: Served, replies: list[str], *script: str) -> list[str]:
    """Have the server's agent play a script, and return what its calls gave."""
    replies[:] = [*script, "done"]
    with server.http() as client:
        told = client.post("/v1/runs", json={"prompt": "Attack.", "stream": True}).text
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "end", events
    assert not any(event.get("error") for event in events), events
    return [event["output"] for event in events if event["type"] == "result"]


def test_the_attack_gets_everywhere_where_nothing_stops_it(server: tuple[Served, list[str], str]) -> None:
    _, _, attack = server
    done = subprocess.run([sys.executable, "-c", attack], capture_output=True, text=True, check=True)
    got = json.loads(done.stdout)
    # What the owner's own program is refused is a call without a token, and one about a run that is not there.
    assert {name for name, value in got.items() if value is None} == {"call without a token", "label"}


def test_the_agent_can_neither_approve_nor_label_nor_call_the_server(server: tuple[Served, list[str], str]) -> None:
    running, replies, attack = server
    workspace = running.service.session.project.workspace
    workspace.mkdir(exist_ok=True)
    (workspace / "attack.py").write_text(attack, encoding="utf-8")
    (output,) = carried_out(running, replies, call("python", program="exec(open('attack.py').read())"))
    got = json.loads(output.strip().splitlines()[-1])
    assert got == dict.fromkeys(got)
    assert len(got) == 8
    assert approvals(running.store, answered=True) == []
    assert [row.outcome for row in running.store.runs()] == ["unknown"]


def test_the_agents_http_tool_does_not_reach_the_server(server: tuple[Served, list[str], str]) -> None:
    running, replies, _ = server
    ways = [f"http://127.0.0.1:{running.port}/healthz", f"http://localhost:{running.port}/healthz"]
    outputs = carried_out(running, replies, *(call("http_get", url=way) for way in ways))
    assert len(outputs) == 2
    assert not any('"ok"' in output for output in outputs)


def test_another_local_user_gets_nothing(server: tuple[Served, list[str], str]) -> None:
    running, _, attack = server
    python = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()), None)
    if os.geteuid() != 0 or shutil.which("setpriv") is None or python is None:
        pytest.skip("NOT TRIED AS ANOTHER USER: needs root, setpriv and a python that another user can run")
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python, "-c", attack]
    done = subprocess.run(become, capture_output=True, text=True, check=True, cwd="/")
    got = json.loads(done.stdout)
    assert got == dict.fromkeys(got)
    assert running.store.runs() == []
