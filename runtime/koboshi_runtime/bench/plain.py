"""The first rival: llama-cpp-python's `Llama`, one run after another, its calls held to a GBNF grammar.

`create_completion` on ids stands for `create_chat_completion`, whose templates know no tools: what follows the prompt
is the same code. `Llama` keeps the longest common beginning of two prompts by itself.
"""

from collections.abc import Sequence

from llama_cpp import Llama, LlamaGrammar
from llama_cpp.llama_grammar import json_schema_to_gbnf

from koboshi_tools import ToolSpec

from ..formats import tool_format
from ..llama import Vocabulary
from ..model import FinishReason, Piece
from ..worker.tokens import ids_of
from .grammar import call_schema, spoken, tagged
from .loop import Completion
from .plan import BenchPlan


class PlainLlama:
    """A `Rival` on the high-level class."""

    jobs = 1

    def __init__(self, plan: BenchPlan, tools: Sequence[ToolSpec]) -> None:
        found = tool_format(plan.profile.tool_format)
        self._llama = Llama(
            str(plan.model),
            n_ctx=plan.context_tokens,
            n_threads=plan.threads,
            n_threads_batch=plan.threads,
            verbose=False,
        )
        self._vocabulary = Vocabulary(self._llama.model)
        body = json_schema_to_gbnf(*call_schema(tools, found))
        self._grammar = LlamaGrammar.from_string(spoken(tagged(body, found)), verbose=False)

    def tokenize(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of `pieces`."""
        return ids_of(self._vocabulary, pieces)

    async def complete(self, prompt_ids: Sequence[int], most: int) -> Completion:
        """Write at most `most` tokens, greedily."""
        answer = self._llama.create_completion(
            list(prompt_ids), max_tokens=most, temperature=0.0, grammar=self._grammar
        )
        finish = FinishReason.LENGTH if answer["choices"][0]["finish_reason"] == "length" else FinishReason.STOP
        return Completion(answer["choices"][0]["text"], answer["usage"]["completion_tokens"], finish)
