"""ShareGPT in the manner of Hermes' function calling: `conversations` of system, human, gpt and tool.

Calls stand in the text of `gpt` between `<tool_call>` tags, results between `<tool_response>` tags, thoughts between
`<think>` tags, and `tools` is the JSON text of the definitions. Text is written as it is: one that holds such tags
itself cannot be told from them, which is why this format is written and not read.
"""

import json
from typing import Any

from ..formats import HERMES
from ..prompt import render_calls
from ..talk import Question, Remark
from .conversation import Conversation, about, with_thought
from .messages import openai_tool


def sharegpt_record(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a line of a ShareGPT file."""
    turns = [{"from": "system", "value": conversation.system}] if conversation.system else []
    for remark in conversation.remarks:
        turns += _turns(remark)
    tools = [openai_tool(spec) for spec in conversation.tools]
    return {
        "conversations": turns,
        **({"tools": json.dumps(tools, ensure_ascii=False)} if tools else {}),
        **about(conversation),
    }


def _turns(remark: Remark) -> list[dict[str, str]]:
    if isinstance(remark, Question):
        return [{"from": "human", "value": remark.text}]
    calls = render_calls(HERMES, [made.call for made in remark.calls])
    said = "\n".join(part for part in (remark.text, calls) if part)
    turns = [{"from": "gpt", "value": with_thought(said, remark.thought)}]
    outputs = [made.result.output for made in remark.calls if made.result]
    if outputs:
        shown = "\n".join(f"<tool_response>\n{output}\n</tool_response>" for output in outputs)
        turns.append({"from": "tool", "value": shown})
    return turns
