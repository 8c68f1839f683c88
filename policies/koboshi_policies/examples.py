"""Run the tests that a rule carries: calls that it must apply to, and calls that it must not."""

from koboshi_tools import ToolCall, canonical_json

from .rules import Example, Rule


def failed_examples(rule: Rule) -> list[str]:
    """Return what each failing example of the rule did, empty if all of them hold."""
    wanted = [(example, True) for example in rule.text.match] + [(example, False) for example in rule.text.not_match]
    return [said for example, applies in wanted if (said := _failure(rule, example, applies=applies))]


def _failure(rule: Rule, example: Example, *, applies: bool) -> str | None:
    call = ToolCall(name=example.tool or rule.text.tools[0], arguments=example.arguments)
    shown = f"{call.name} {canonical_json(call.arguments)}"
    purpose = example.purpose or (rule.text.purposes[0] if rule.text.purposes else "work")
    try:
        if rule.applies(call, purpose) != applies:
            return f"the rule {'does not apply' if applies else 'applies'} to {shown}"
        if applies and example.becomes is not None:
            made = rule.changed(call).arguments
            if made != example.becomes:
                return f"{shown} becomes {canonical_json(made)}, not {canonical_json(example.becomes)}"
    except Exception as error:
        # A rule that fails denies, which is neither applying nor not applying.
        return f"the rule fails on {shown}: {type(error).__name__}: {error}"
    return None
