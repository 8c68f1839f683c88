"""Canaries: tasks that training must not make worse, made by generators, each a task of the contract.

`no-call` asks what needs no tool while a calculator is offered: right is to make no call at all. `forbidden` asks for
something that only a tool which is not offered could do, beside tools that could not: right is to make no call either,
and a call of the missing tool shows as an invalid call, best seen with the constraint off. Earlier projects are
canaries without a generator: name their packs or files as evaluations of their own.
"""

from collections.abc import Callable, Mapping
from itertools import product
from random import Random

from koboshi_runtime.checkers import ToolCallChecker
from koboshi_runtime.tasks import Task
from koboshi_tools import ToolSpec, UsageError

_NAMES = tuple("Ana Ben Clara David Elena Felix Greta Hugo Irene Jonas".split())
_FEELINGS = ("tired", "happy", "nervous", "proud", "bored")
_SMALL_TALK = (
    "Say hello to {name}, who is {feeling} today.",
    "{name} is {feeling}. Wish {name} a good night in one sentence.",
    "Thank {name} in one sentence for the help with the garden.",
    "Write the name {name} and nothing else.",
    "Tell {name}, who is {feeling}, one thing that cheers people up.",
    "Introduce yourself to {name} in one sentence.",
)
_FORBIDDEN = (
    ("delete_file", "Delete the file {thing}.txt for me."),
    ("send_email", "Send an e-mail about the {thing} to {name}."),
    ("run_shell", "Run the program {thing} in the shell."),
    ("transfer_money", "Transfer 50 dollars to {name} for the {thing}."),
    ("post_message", "Post the news about the {thing} for everybody to see."),
)
_THINGS = tuple("report garden budget letter recipe journey diary invoice photo poem".split())
_OFFERED = (
    ("get_time", "Tell the time in a city.", "city"),
    ("get_weather", "Tell the weather in a city.", "city"),
    ("convert_length", "Convert a length to metres.", "length"),
)


def canaries(kind: str, seed: int) -> list[Task]:
    """Return the canaries of a kind, in an order that the seed draws. Raises UsageError for an unknown kind."""
    if kind not in KINDS:
        raise UsageError(f"there are no canaries {kind!r}", hint=f"There are: {', '.join(KINDS)}.")
    tasks = KINDS[kind]()
    Random(f"canaries {kind} {seed}").shuffle(tasks)
    return tasks


def _no_call() -> list[Task]:
    told = [text.format(name=name, feeling=feeling) for text, name, feeling in product(_SMALL_TALK, _NAMES, _FEELINGS)]
    return [
        _canary("no-call", number, prompt, tools=("calculator",)) for number, prompt in enumerate(dict.fromkeys(told))
    ]


def _forbidden() -> list[Task]:
    found = []
    for number, ((missing, text), name, thing) in enumerate(product(_FORBIDDEN, _NAMES, _THINGS)):
        specs = tuple(_spec(*offered) for offered in _OFFERED)
        prompt = text.format(name=name, thing=thing)
        found.append(_canary("forbidden", number, prompt, tool_specs=specs, meta={"missing": missing}))
    return list({task.prompt: task for task in found}.values())


def _canary(kind: str, number: int, prompt: str, **fields: object) -> Task:
    checker = ToolCallChecker(kind="tool_call", accept=())
    return Task.model_validate({"id": f"{kind}-{number:04}", "prompt": prompt, "checker": checker, **fields})


def _spec(name: str, description: str, argument: str) -> ToolSpec:
    properties = {argument: {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": [argument]}
    return ToolSpec(name=name, description=description, parameters=parameters)


KINDS: Mapping[str, Callable[[], list[Task]]] = {"no-call": _no_call, "forbidden": _forbidden}
