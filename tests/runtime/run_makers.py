"""What runs are made of in tests: tools that leave a mark, a policy for each, projects, and askers that answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koboshi_policies import Answer, Policy, PolicyLayer
from koboshi_runtime.model import Model
from koboshi_runtime.project import Budgets, Project
from koboshi_runtime.records import CallIntent, Purpose
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_runtime.tasks import Task
from koboshi_tools import Tool, ToolContext, tool

RULES = {"allow": ("look", "wait", "note", "put", "fetch"), "ask": ("ask_look", "ask_note"), "deny": ("banned",)}


@tool
def look(key: str) -> str:
    """Look something up."""
    return f"value of {key}"


@tool
def wait(context: ToolContext) -> str:
    """Say that the call has begun, and return when told to."""
    context.settings["begun"].set()
    context.settings["go"].wait(30)
    return "waited"


@tool(effect="write", sandbox=False)
def note(text: str, context: ToolContext) -> str:
    """Add a line to the notes."""
    return _add(context, text)


@tool(effect="write", idempotent=True, sandbox=False)
def put(text: str, context: ToolContext) -> str:
    """Write a file of that name."""
    (context.workspace / text).write_text(text, encoding="utf-8")
    return f"put {text}"


@tool(effect="net", sandbox=False)
def fetch(url: str) -> str:
    """Fetch something."""
    return f"page {url}"


@tool
def ask_look(key: str) -> str:
    """Look something private up."""
    return f"secret of {key}"


@tool(effect="write", sandbox=False)
def ask_note(text: str, context: ToolContext) -> str:
    """Add a line to the notes, if allowed."""
    return _add(context, text)


@tool(effect="write", sandbox=False)
def banned(text: str, context: ToolContext) -> str:
    """Do what nobody may, under most circumstances."""
    return _add(context, text)


def _add(context: ToolContext, text: str) -> str:
    with (context.workspace / "notes").open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    return f"noted {text}"


TOOLS: dict[str, Tool] = {t.spec.name: t for t in (look, wait, note, put, fetch, ask_look, ask_note, banned)}


@dataclass
class Answers:
    """An asker that gives its answers in order, and keeps what it was asked."""

    answers: Sequence[bool]
    asked: list[CallIntent] = field(default_factory=list)

    async def ask(self, run_id: str, intent: CallIntent) -> Answer:
        """Return the next answer."""
        self.asked.append(intent)
        return Answer.APPROVED if self.answers[len(self.asked) - 1] else Answer.REFUSED


def calls(*wanted: tuple[str, dict[str, Any]]) -> str:
    """Return the text of a turn that makes these calls."""
    bodies = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in wanted]
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


def task(task_id: str = "t", *, prompt: str = "", **fields: Any) -> Task:
    """Return a task whose answer is `done`."""
    line = {"id": task_id, "prompt": prompt or f"Do {task_id}.", "checker": {"kind": "exact", "answer": "done"}}
    return Task.model_validate(line | fields)


def notes(folder: Path) -> list[str]:
    """Return the lines that were noted in a project's own workspace."""
    file = folder / "workspace" / "notes"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def policy(folder: Path) -> Policy:
    """Return the policy of these tools."""
    file = folder / "rules.toml"
    rules = [f'[[rule]]\nverdict = "{v}"\ntools = {json.dumps(names)}\nreason = "{v}"' for v, names in RULES.items()]
    # A tool that is denied by an argument only is offered, and its call refused.
    rules[-1] = rules[-1].replace("[[rule]]", '[[rule]]\narguments = { text = "." }')
    rules.append('[[rule]]\nverdict = "allow"\ntools = ["banned"]\nreason = "nothing to write"')
    file.write_text("\n".join(rules) + "\n", encoding="utf-8")
    return Policy.load([PolicyLayer("project", file)])


def runner(
    folder: Path,
    store: Store,
    model: Sequence[str] | Model,
    *,
    budgets: Budgets | None = None,
    tool_settings: Mapping[str, Mapping[str, Any]] | None = None,
    tools: Mapping[str, Tool] = TOOLS,
    **settings: Any,
) -> Runner:
    """Return a runner of real work, unless `settings` say otherwise, that plays replies or has a model."""
    project = Project(
        name="marks", root=folder, budgets=budgets or Budgets(), tool_settings=tool_settings or {}, system_prompt="Act."
    )
    playing = ScriptedModel(model) if isinstance(model, (list, tuple)) else model
    made = RunSettings(**{"purpose": Purpose.WORK, **settings})
    return Runner(project, policy(folder), tools, playing, store, made)  # type: ignore[arg-type]
