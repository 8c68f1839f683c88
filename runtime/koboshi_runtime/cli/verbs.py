"""The table of verbs: which module holds each and what the help says of it, so that `--help` imports none of them.

The runtime's verbs stand here. Those of other distributions, and of the trainer, come through the entry-point group
`koboshi.commands`, because the runtime must not import the trainer.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

import click

GROUP = "koboshi.commands"


class Verb(NamedTuple):
    """Where a command lies, as `module:attribute`, and its one-line help."""

    place: str
    help: str


_HERE = "koboshi_runtime.cli"

VERBS: Mapping[str, Verb] = {
    "run": Verb(f"{_HERE}.run:run", "Run a prompt, a file of tasks, or the rest of a run that was cut off."),
    "eval": Verb(f"{_HERE}.eval:eval_command", "Measure a model on a task file."),
    "init": Verb(f"{_HERE}.init:init", "Make a project in a new or empty folder."),
    "trust": Verb(f"{_HERE}.trust:trust", "Show what a project would run here, and agree to it."),
    "tasks": Verb(f"{_HERE}.tasks:tasks", "Look at tasks, and make them."),
    "traces": Verb(f"{_HERE}.traces:traces", "Look at recorded runs."),
    "tui": Verb(f"{_HERE}.tui:tui", "Look at runs, label them, answer questions, all in the terminal."),
    "outcome": Verb(f"{_HERE}.outcome:outcome", "Label runs, and list those without a label."),
    "why": Verb(f"{_HERE}.why:why", "Say in five lines why a run ended as it did, and what to do next."),
    "models": Verb(f"{_HERE}.models:models", "Add models, and choose the one that is live."),
    "policy": Verb(f"{_HERE}.policy:policy", "Look at the rules about tools."),
    "approvals": Verb(f"{_HERE}.approvals:approvals", "Answer the calls that wait for a person."),
    "chat": Verb(
        f"{_HERE}.chat:chat", "Talk with the project's agent; each question is stored as a run that can be labelled."
    ),
    "serve": Verb(
        f"{_HERE}.serve:serve",
        "Serve the model and the project's agent to programs of this machine, in the words of OpenAI's API.",
    ),
    "ps": Verb(
        f"{_HERE}.processes:ps", "List what runs on this home: the server, the model workers, the runs in progress."
    ),
    "stop": Verb(
        f"{_HERE}.processes:stop",
        "End this home's server: replies are finished, runs are interrupted and can be resumed.",
    ),
    "tools": Verb(f"{_HERE}.tools:tools", "Look at the tools that a model can be offered."),
    "bench": Verb(
        f"{_HERE}.bench:bench", "Measure koboshi beside llama.cpp itself, llama.cpp's server and a plain loop."
    ),
    "doctor": Verb(
        f"{_HERE}.doctor:doctor",
        "Say what is well here, what a model needs and what there is, and measure how it is loaded best.",
    ),
    "backup": Verb(f"{_HERE}.backup:backup", "Copy the home to a folder, while agents work."),
    "restore": Verb(
        f"{_HERE}.backup:restore", "Make the home of a backup; a home that holds anything is left as it is."
    ),
    "gc": Verb(f"{_HERE}.gc:gc", "Delete what is cheapest to make again until the home fits its budget."),
    "config": Verb(f"{_HERE}.config:config", "Show the configuration and where it comes from."),
    "completion": Verb(
        f"{_HERE}.completion:completion",
        "Print the script that completes koboshi's verbs, flags, runs and models in a shell.",
    ),
    "db": Verb(f"{_HERE}.db:db", "Find and check the trace store."),
}

# An entry point carries no help, and loading one to ask for it would make `--help` slow.
_PLUGGED_HELP = {
    "demo": "Walk the whole loop on a small project, and report.",
    "lab": "Compare ways of learning, with intervals.",
    "nightly": "Train at night, prove the result, and tell in the morning.",
    "train": "Train on what runs did, and prove the result.",
}


def plugged() -> dict[str, EntryPoint]:
    """Return the verbs that installed distributions add, by name; none can replace one of ours."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in VERBS}


def help_of(name: str) -> str:
    """Return the one-line help of a verb without importing it."""
    return VERBS[name].help if name in VERBS else _PLUGGED_HELP.get(name, "Added by an installed package.")


def load(name: str) -> click.Command | None:
    """Import and return the command `name`, or None if there is no such verb."""
    if name in VERBS:
        module, _, attribute = VERBS[name].place.partition(":")
        found = getattr(import_module(module), attribute)
    elif point := plugged().get(name):
        found = point.load()
    else:
        return None
    assert isinstance(found, click.Command), f"{name} is a {type(found).__name__}, not a click command"
    return found
