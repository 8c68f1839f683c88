"""How each family of models writes a tool call: the published formats, by name.

A call begins with an `opening`, then one JSON object (or, for `listed` formats, a list of them), then the `closing`.
`prompt` renders these formats, `parse` reads them, and the worker's constraint turns them into a grammar: this table is
the one place where they are spelled.
"""

from dataclasses import dataclass

from koboshi_tools import UsageError


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way to write calls.

    `at_start` means that a call is recognised only as the first thing in a reply, after `lead` where a model writes it.
    Any reply that begins with `{` is then a call, as in the published readers of these formats: an answer in JSON needs
    words before it. `between` separates two calls, from the closing of one to the object of the next; a format that
    takes one call a turn has None.
    """

    name: str
    opening: str
    closing: str
    arguments_key: str
    between: str | None = None
    at_start: bool = False
    listed: bool = False
    lead: str = ""

    @property
    def tag(self) -> str:
        """The opening up to its first blank: the part that may be one special token; empty for an `at_start` format."""
        return self.opening.split()[0] if self.opening else ""


HERMES = ToolFormat(
    name="hermes",
    opening="<tool_call>\n",
    closing="\n</tool_call>",
    between="\n<tool_call>\n",
    arguments_key="arguments",
)
LLAMA3_JSON = ToolFormat(
    name="llama3_json", opening="", closing="", arguments_key="parameters", at_start=True, lead="<|python_tag|>"
)
MISTRAL = ToolFormat(
    name="mistral",
    opening="[TOOL_CALLS] [",
    closing="]",
    between=", ",
    arguments_key="arguments",
    listed=True,
)
GEMMA_JSON = ToolFormat(name="gemma_json", opening="", closing="", arguments_key="parameters", at_start=True)

FORMATS = {found.name: found for found in (HERMES, LLAMA3_JSON, MISTRAL, GEMMA_JSON)}


def tool_format(name: str) -> ToolFormat:
    """Return a format by name. Raises UsageError with the names there are."""
    try:
        return FORMATS[name]
    except KeyError:
        raise UsageError(f"unknown tool format {name!r}", hint=f"one of {', '.join(FORMATS)}") from None
