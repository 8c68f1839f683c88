"""A reply as OpenAI's API tells it: whole, or in the chunks of a stream."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from koboshi_tools import ToolCall

from ..conversation.turn import Answer
from ..ids import new_id
from ..model import ModelInfo


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion: its id, its model, and the ids of its calls when they are known."""

    model: ModelInfo
    completion_id: str = field(default_factory=lambda: f"chatcmpl-{new_id()}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer, call_ids: tuple[str, ...]) -> dict[str, Any]:
        """Return the body of a response."""
        calls = _calls(answer.said.calls, call_ids)
        message: dict[str, Any] = {"role": "assistant", "content": answer.said.text or None, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(answer)}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """Return a chunk with one choice."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def calls_chunk(self, answer: Answer, call_ids: tuple[str, ...]) -> dict[str, Any]:
        """Return the chunk with all calls of a reply, each whole."""
        numbered = [{"index": n, **call} for n, call in enumerate(_calls(answer.said.calls, call_ids))]
        return self.chunk({"tool_calls": numbered})

    def usage_chunk(self, answer: Answer) -> dict[str, Any]:
        """Return the last chunk, without a choice."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.model.name,
            "system_fingerprint": self.model.model_hash,
        }


def new_call_ids(answer: Answer) -> tuple[str, ...]:
    """Return an id for each call of a reply, none of which was given before."""
    return tuple(f"call_{new_id()}" for _ in answer.said.calls)


def _calls(calls: tuple[ToolCall, ...], call_ids: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for call, call_id in zip(calls, call_ids, strict=True)
    ]


def usage(answer: Answer) -> dict[str, Any]:
    """Return what a reply cost, in tokens."""
    prompt, written = answer.prompt_tokens, len(answer.reply.ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": answer.reply.reused_tokens},
    }
