"""The chat markup of each family of models, as data: what stands around a turn, and how tools are announced.

Ours, chosen by name and never taken from a file: a template inside a GGUF is a program by whoever made the file. Where
a family's published template exists, the text made from this table is equal to it (golden files in tests/golden).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from koboshi_tools import ToolSpec, UsageError


@dataclass(frozen=True, slots=True)
class Template:
    """The markup of one family. Each `…_open` and `…_close` is split into special tokens and text by `prompt`.

    `system_in_user` families have no system turn: its text opens the first user turn. `tool_role` is how a tool's
    result is opened, `tool_close` how it is closed, `show_result` how an output is written between them, given its
    place among the results of the turn; `end` is what the model itself writes to end a turn.
    """

    name: str
    tool_format: str
    system_open: str
    system_close: str
    user_open: str
    user_close: str
    assistant_open: str
    end: str
    between: str
    tool_open: str
    tool_close: str
    specials: tuple[str, ...]
    announce: Callable[[Sequence[ToolSpec]], str]
    show_result: Callable[[str, int], str]
    system_in_user: bool = False
    default_system: str = ""


def _function(tool: ToolSpec) -> dict[str, object]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _announce_hermes(tools: Sequence[ToolSpec]) -> str:
    lines = "\n".join(json.dumps(_function(tool), ensure_ascii=False) for tool in tools)
    return (
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        + lines
        + "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


def _announce_llama3(tools: Sequence[ToolSpec]) -> str:
    shown = "".join(json.dumps(_function(tool), indent=4, ensure_ascii=False) + "\n\n" for tool in tools)
    return (
        "You have access to the following functions. To call a function, please respond with JSON for a function call."
        'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
        "Do not use variables.\n\n" + shown
    )


def _announce_mistral(tools: Sequence[ToolSpec]) -> str:
    return json.dumps([_function(tool) for tool in tools], ensure_ascii=False)


def _announce_gemma(tools: Sequence[ToolSpec]) -> str:
    shown = json.dumps([_function(tool)["function"] for tool in tools], ensure_ascii=False)
    return (
        "You have access to functions. "
        "If you decide to invoke any of the function(s), you MUST put it in the format of\n"
        '{"name": function name, "parameters": dictionary of argument name and its value}\n\n'
        "You SHOULD NOT include any other text in the response if you call a function\n" + shown + "\n\n"
    )


def _result_as_it_is(output: str, place: int) -> str:
    return output


def _result_as_json(output: str, place: int) -> str:
    """Quote the output: the published Llama 3.1 template writes anything iterable, a string too, as JSON."""
    return json.dumps(output, ensure_ascii=False)


def _result_with_call_id(output: str, place: int) -> str:
    """Name the call by its place: the published form asks for an id of nine letters and digits."""
    return json.dumps({"content": output, "call_id": f"call{place:05}"}, ensure_ascii=False)


CHATML = Template(
    name="chatml",
    tool_format="hermes",
    system_open="<|im_start|>system\n",
    system_close="<|im_end|>\n",
    user_open="<|im_start|>user\n",
    user_close="<|im_end|>\n",
    assistant_open="<|im_start|>assistant\n",
    end="<|im_end|>",
    between="\n",
    tool_open="<tool_response>\n",
    tool_close="\n</tool_response>",
    specials=("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    announce=_announce_hermes,
    show_result=_result_as_it_is,
    default_system="You are a helpful assistant.",
)
LLAMA3 = Template(
    name="llama3",
    tool_format="llama3_json",
    system_open="<|start_header_id|>system<|end_header_id|>\n\n",
    system_close="<|eot_id|>",
    user_open="<|start_header_id|>user<|end_header_id|>\n\n",
    user_close="<|eot_id|>",
    assistant_open="<|start_header_id|>assistant<|end_header_id|>\n\n",
    end="<|eot_id|>",
    between="",
    tool_open="<|start_header_id|>ipython<|end_header_id|>\n\n",
    tool_close="<|eot_id|>",
    specials=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    announce=_announce_llama3,
    show_result=_result_as_json,
)
MISTRAL = Template(
    name="mistral",
    tool_format="mistral",
    system_open="",
    system_close="\n\n",
    user_open="[INST] ",
    user_close="[/INST]",
    assistant_open="",
    end="</s>",
    between="",
    tool_open="[TOOL_RESULTS] ",
    tool_close="[/TOOL_RESULTS]",
    specials=(
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
        "</s>",
    ),
    announce=_announce_mistral,
    show_result=_result_with_call_id,
    system_in_user=True,
)
GEMMA = Template(
    name="gemma",
    tool_format="gemma_json",
    system_open="",
    system_close="\n\n",
    user_open="<start_of_turn>user\n",
    user_close="<end_of_turn>\n",
    assistant_open="<start_of_turn>model\n",
    end="<end_of_turn>",
    between="\n",
    tool_open="<start_of_turn>user\n",
    tool_close="<end_of_turn>\n",
    specials=("<start_of_turn>", "<end_of_turn>"),
    announce=_announce_gemma,
    show_result=_result_as_it_is,
    system_in_user=True,
)

TEMPLATES = {found.name: found for found in (CHATML, LLAMA3, MISTRAL, GEMMA)}

# What only we may write as a token of its own, in any family's vocabulary.
MARKS = tuple(
    dict.fromkeys(
        [
            *(mark for found in TEMPLATES.values() for mark in found.specials),
            *("<think>", "</think>", "<|python_tag|>", "<|eom_id|>", "<|begin_of_text|>", "<|endoftext|>", "<s>"),
        ]
    )
)


def template(name: str) -> Template:
    """Return a template by name. Raises UsageError with the names there are."""
    try:
        return TEMPLATES[name]
    except KeyError:
        raise UsageError(f"unknown prompt template {name!r}", hint=f"one of {', '.join(TEMPLATES)}") from None
