"""The second rival: llama.cpp's own server with parallel slots, from the package `xllamacpp`, in this process.

Its calls are held to a grammar that starts with the opening tag, as its own chat route does it, so that free text
costs it nothing.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import xllamacpp
from llama_cpp.llama_grammar import json_schema_to_gbnf

from koboshi_tools import ToolSpec

from ..formats import tool_format
from ..llama import Vocabulary, load_vocabulary
from ..model import FinishReason, Piece
from ..worker.tokens import ids_of
from .grammar import call_schema, tagged
from .loop import Completion
from .plan import BenchPlan

# `COMMON_GRAMMAR_TRIGGER_TYPE_WORD` of llama.cpp's server: the grammar begins where this text begins.
_TRIGGER_WORD = 1


class LlamaServer:
    """A `Rival` with a slot for each run at once."""

    def __init__(self, plan: BenchPlan, tools: Sequence[ToolSpec]) -> None:
        self.jobs = plan.jobs
        found = tool_format(plan.profile.tool_format)
        self._vocabulary = Vocabulary(load_vocabulary(plan.model))
        self._grammar = tagged(json_schema_to_gbnf(*call_schema(tools, found)), found)
        self._trigger = found.tag
        self._threads = ThreadPoolExecutor(plan.jobs)
        self._server = xllamacpp.Server(_parameters(plan))

    def tokenize(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of `pieces`."""
        return ids_of(self._vocabulary, pieces)

    async def complete(self, prompt_ids: Sequence[int], most: int) -> Completion:
        """Write at most `most` tokens, greedily."""
        request = {
            "prompt": list(prompt_ids),
            "n_predict": most,
            "temperature": 0,
            "cache_prompt": True,
            "grammar": self._grammar,
            "grammar_lazy": True,
            "grammar_triggers": [{"type": _TRIGGER_WORD, "value": self._trigger}],
        }
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, self._server.handle_completions, request)
        finish = FinishReason.LENGTH if answer["choices"][0]["finish_reason"] == "length" else FinishReason.STOP
        return Completion(answer["choices"][0]["text"], answer["usage"]["completion_tokens"], finish)


def _parameters(plan: BenchPlan) -> "xllamacpp.CommonParams":
    found = xllamacpp.CommonParams()
    found.model.path = str(plan.model)
    found.n_parallel = plan.jobs
    found.n_ctx = plan.context_tokens * plan.jobs
    found.cpuparams.n_threads = found.cpuparams_batch.n_threads = plan.threads
    found.n_gpu_layers = 0
    found.fit_params = False
    found.verbosity = 0
    return found
