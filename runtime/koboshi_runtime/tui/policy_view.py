"""Why a call would be allowed or not: any tool and any arguments, decided by the rules that hold here now.

Nothing is called and nothing is recorded; rules with rates are asked as if no call had been made before.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Static

from koboshi_policies import Circumstances, Decision, Policy, Verdict, check, matching, policy_layers
from koboshi_policies.rules import Rule
from koboshi_tools import ToolCall, UsageError

from ..project import load_project
from ..records import Purpose
from ..strict_json import loads
from .cells import line, many
from .lists import Column, Rows
from .picking import ANY, WAITS, Chip, Picker
from .run_nodes import decision_text
from .view import View, ask, look_of, palette

_SIGNS = {Verdict.ALLOW: "✓", Verdict.MODIFY: "✓", Verdict.ASK: "?", Verdict.DENY: "✗"}


class PolicyView(View):
    """The rules in force, and what they say of a call."""

    title = "Policy"
    about = (
        "The rules that hold here, and what they say of a call: write a tool and its arguments, or press p on a call "
    )
    about += "in a run. Nothing is called."
    BINDINGS: ClassVar[list[Any]] = [
        Binding("e", "write", "write a call"),
        Binding("p", "purpose", "purpose"),
        Binding("escape", "rules", "to the rules"),
    ]

    def __init__(self) -> None:
        super().__init__(id="policy")
        self.policy: Policy | None = None

    def compose(self) -> ComposeResult:
        """Lay out the call, the answer and the rules."""
        with Horizontal(classes="filters"):
            yield Input(placeholder="tool", compact=True, id="policy-tool")
            yield Input(placeholder='arguments: {"query": "select 1"}', compact=True, id="policy-arguments")
            yield Chip("purpose", "p")
        with VerticalScroll(id="policy-answer", can_focus=False):
            yield Static(id="policy-text")
        yield Rows(
            (
                Column("layer", 8),
                Column("verdict", 7),
                Column("rule", 0),
                Column("tools", 0),
                Column("place", 0, wide=100),
            ),
            widget_id="policy-rules",
        )
        yield Static(classes="status")

    def take_focus(self) -> None:
        """Put the keys on the rules."""
        self.query_one(Rows).focus()

    async def reload(self) -> None:
        """Read the rules anew."""
        self.policy = await ask(self, self._read)
        self._draw()
        self._explain()

    async def changed(self) -> None:
        """Stay: what runs write changes no rule."""

    def explain(self, call: ToolCall) -> None:
        """Show what the rules say of a call."""
        self.query_one("#policy-tool", Input).value = call.name
        self.query_one("#policy-arguments", Input).value = json.dumps(call.arguments)

    def _read(self) -> Policy:
        folder = look_of(self).project
        return Policy.load(policy_layers(load_project(folder).policies if folder else ()))

    def _draw(self) -> None:
        rows, styles = self.query_one(Rows), palette(self)
        rules: Sequence[Rule] = self.policy.rules if self.policy else ()
        rows.fill(
            [
                (
                    f"{rule.file}:{rule.line}",
                    (
                        line(rule.layer, 8, styles.quiet),
                        line(rule.text.verdict, 7, styles.name),
                        line(rule.name, rows.width_of("rule")),
                        line(" ".join(rule.text.tools), rows.width_of("tools")),
                        line(f"{self._short(rule.file)}:{rule.line}", rows.width_of("place") or 8, styles.quiet),
                    ),
                )
                for rule in rules
            ]
        )
        where = look_of(self).project
        place = f"of the project {where}" if where else "without a project; koboshi tui -C DIR looks at one"
        self.query_one(".status", Static).update(line(f"{many(len(rules), 'rule')} {place}"))

    @on(Rows.Resized)
    def _resized(self) -> None:
        self._draw()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._explain()

    @on(Input.Submitted)
    def _written(self, event: Input.Submitted) -> None:
        following = "#policy-arguments" if event.input.id == "policy-tool" else "#policy-rules"
        self.query_one(following).focus()

    @on(Chip.Pressed)
    def _pressed(self) -> None:
        self.action_purpose()

    def _explain(self) -> None:
        styles = palette(self)
        tool = self.query_one("#policy-tool", Input).value.strip()
        if self.policy is None or not tool:
            said = Text("e writes a call: what would happen to it is told here", styles.quiet)
        else:
            said = self._said(self.policy, tool)
        self.query_one("#policy-text", Static).update(said)

    def _said(self, policy: Policy, tool: str) -> Text:
        styles = palette(self)
        try:
            call = ToolCall(name=tool, arguments=arguments_of(self.query_one("#policy-arguments", Input).value))
        except UsageError as error:
            return Text.assemble(line(str(error), None, styles.warn))
        now = Circumstances(self.query_one(Chip).value or Purpose.WORK)
        decision = check(call, policy, now)
        sign, style = _SIGNS[decision.verdict], styles.good if decision.permits else styles.bad
        shown = Text.assemble((f"{sign} {decision.verdict} ", style), line(tool, None, styles.strong), "\n")
        shown.append_text(decision_text(self._placed(decision), styles))
        others = [other for other in matching(call, policy, now) if other.rule != decision.rule]
        for other in others:
            shown.append_text(_also("also", self._placed(other))).append("\n")
        if policy.shadow is not None:
            shown.append_text(_also("shadow", self._placed(check(call, policy.shadow, now))))
        return shown

    def _placed(self, decision: Decision) -> Decision:
        return decision if decision.file is None else decision.model_copy(update={"file": self._short(decision.file)})

    def _short(self, file: str) -> str:
        """Return a file below the project from there on, another one with the folder it lies in."""
        path, project = Path(file), look_of(self).project
        if project is not None and path.is_relative_to(project):
            return str(path.relative_to(project))
        return "/".join(path.parts[-2:])

    def action_write(self) -> None:
        """Write a call."""
        self.query_one("#policy-tool").focus()

    def action_rules(self) -> None:
        """Go to the rules."""
        self.query_one(Rows).focus()

    @work(group=WAITS)
    async def action_purpose(self) -> None:
        """Choose what the run would be for."""
        chip = self.query_one(Chip)
        picked = await self.app.push_screen_wait(Picker("purpose", [each.value for each in Purpose], chip.value))
        if picked is not None:
            chip.choose(None if picked == ANY else picked)
            self._explain()


def arguments_of(text: str) -> dict[str, Any]:
    """Return the arguments that were written; none for an empty line. Raises UsageError."""
    if not text.strip():
        return {}
    try:
        value = loads(text)
    except ValueError as error:
        raise UsageError(f"the arguments are {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"the arguments are {type(value).__name__}, not an object")
    return value


def _also(name: str, decision: Decision) -> Text:
    place = f"{decision.rule} ({decision.file}:{decision.line})" if decision.file else decision.reason
    return Text(f"{name:>8}  {decision.verdict}: ").append_text(line(place))
