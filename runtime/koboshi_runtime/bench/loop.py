"""The agent loop that a rival is given: koboshi's own prompts, parser, tools and judge, with no graph and no store.

It does for a rival what somebody would write around it by hand. What a rival wrote goes back into the prompt as text.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from koboshi_policies import Policy, offerable, policy_layers
from koboshi_tools import Tool, ToolCall, ToolContext, ToolSpec, builtin_tools, execute

from .. import prompt
from ..checkers import Finished, judge
from ..model import FinishReason, Piece
from ..parse import AnswerReply, CallReply, ParsedReply, parse_reply
from ..project import Project, load_project
from ..records import OutcomeLabel
from ..scratch import scratch_copy
from ..tasks import Task, load_tasks
from .plan import BenchPlan, SideResult


class Completion(NamedTuple):
    """What a rival wrote: its text, how many tokens it took, and why it ended."""

    text: str
    tokens: int
    finish: FinishReason


class Rival(Protocol):
    """Whatever writes a turn after a prompt of ids."""

    jobs: int

    def tokenize(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of `pieces`."""
        ...

    async def complete(self, prompt_ids: Sequence[int], most: int) -> Completion:
        """Write at most `most` tokens, greedily."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """A pack's project as the loop needs it."""

    project: Project
    tools: dict[str, Tool]
    specs: tuple[ToolSpec, ...]
    tasks: tuple[Task, ...]

    @classmethod
    def of(cls, plan: BenchPlan) -> "Setting":
        """Load the project and the tasks of a plan."""
        project, tools = load_project(plan.project), builtin_tools()
        policy = Policy.load(policy_layers(project.policies, ()))
        names = offerable([name for name in project.select_tools(tools) if name in tools], policy)
        return cls(project, dict(tools), tuple(tools[name].spec for name in names), load_tasks(plan.tasks))


async def play(side: str, plan: BenchPlan, setting: Setting, rival: Rival) -> SideResult:
    """Run all tasks, as many at once as the rival takes, and return what it did."""
    queue = iter(setting.tasks)
    found: list[tuple[bool, int]] = []

    async def work() -> None:
        for task in queue:
            found.append(await _carry(task, plan, setting, rival))

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(rival.jobs)))
    wall = time.perf_counter() - started
    successes = sum(good for good, _ in found)
    return SideResult(
        side=side, wall_s=wall, runs=len(found), successes=successes, tokens=sum(count for _, count in found)
    )


async def _carry(task: Task, plan: BenchPlan, setting: Setting, rival: Rival) -> tuple[bool, int]:
    with scratch_copy(setting.project.task_workspace(task)) as workspace:
        answer, calls, tokens = await _converse(task, plan, setting, rival, workspace)
        finished = Finished(answer=answer, calls=tuple(calls), workspace=workspace, ended_ok=answer is not None)
        outcome = judge(task.checker, finished) if task.checker else None
    return outcome is not None and outcome.label is OutcomeLabel.SUCCESS, tokens


async def _converse(
    task: Task, plan: BenchPlan, setting: Setting, rival: Rival, workspace: Path
) -> tuple[str | None, list[ToolCall], int]:
    system, budgets, profile = setting.project.system_prompt, setting.project.budgets, plan.profile
    ids = rival.tokenize(prompt.prefix(profile, system, setting.specs))
    ids += rival.tokenize(prompt.user_turn(profile, system, setting.specs, task.prompt, prompt.SUCCESS))
    calls: list[ToolCall] = []
    tokens = 0
    for _ in range(budgets.max_steps):
        room = min(budgets.reply_tokens, budgets.max_tokens - tokens, plan.context_tokens - len(ids) - 1)
        if room <= 0:
            break
        reply = await rival.complete(ids, room)
        tokens += reply.tokens
        parsed = parse_reply(profile, reply.text, reply.finish, setting.specs)
        if isinstance(parsed, AnswerReply):
            return parsed.text, calls, tokens
        if isinstance(parsed, CallReply):
            calls += parsed.calls
            ids += rival.tokenize((Piece(text=reply.text), Piece(text=prompt.end_text(profile), markup=True)))
        ids += rival.tokenize(await _told(parsed, plan, setting, workspace))
    return None, calls, tokens


async def _told(parsed: ParsedReply, plan: BenchPlan, setting: Setting, workspace: Path) -> tuple[Piece, ...]:
    if not isinstance(parsed, CallReply):
        return prompt.repair_turn(plan.profile, getattr(parsed, "error", ""))
    outputs = []
    for call in parsed.calls:
        context = ToolContext(workspace=workspace, settings=setting.project.tool_settings.get(call.name, {}))
        result = await execute(call, setting.tools[call.name], context)
        outputs.append((call.name, result.output))
    return prompt.tool_turn(plan.profile, outputs)
