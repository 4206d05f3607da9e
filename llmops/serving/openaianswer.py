"""What OpenAI's clients get: answers and the events of a stream, in the shapes they read."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops.records.traffic import new_id
from llmops.serving.calls import Call

DONE = b"data: [DONE]\n\n"


def event(plain: Any) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(plain, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def usage(prompt: int, written: int) -> dict[str, int]:
    """Token counts; the end token counts as written."""
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


@dataclass(frozen=True)
class Shape:
    """The fields that all parts of one answer share, and how chats and completions differ."""

    chat: bool
    model: str
    version: int
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def fresh(cls, chat: bool, model: str, version: int) -> Shape:
        """One with an id of its own, which feedback may name."""
        return cls(chat, model, version, f"{'chatcmpl' if chat else 'cmpl'}-{new_id()}")

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model,
            "system_fingerprint": f"version-{self.version}",
        }  # fmt: skip

    def choice(
        self, index: int, words: str, calls: Sequence[Call], finish: str, logprobs: dict[str, Any] | None
    ) -> dict[str, Any]:
        """One answer in one piece."""
        choice: dict[str, Any] = {"index": index, "logprobs": logprobs, "finish_reason": finish}
        if not self.chat:
            return choice | {"text": words}
        message: dict[str, Any] = {"role": "assistant", "content": words, "refusal": None}
        if calls:
            message |= {"content": words or None, "tool_calls": [_call(call) for call in calls]}
        return choice | {"message": message}

    def whole(self, choices: Sequence[dict[str, Any]], counts: dict[str, int]) -> dict[str, Any]:
        """All answers to a request."""
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": list(choices), "usage": counts}

    def first(self, index: int, counted: bool) -> dict[str, Any]:
        """The event that opens a chat; completions have none. `counted`: whether the stream will tell its usage."""
        return self._part(index, {"delta": {"role": "assistant", "content": "", "refusal": None}}, None, None, counted)

    def part(
        self, index: int, words: str, finish: str | None, logprobs: dict[str, Any] | None, counted: bool
    ) -> dict[str, Any]:
        """The event for one piece of words."""
        inner: dict[str, Any] = {"delta": {"content": words} if words else {}} if self.chat else {"text": words}
        return self._part(index, inner, finish, logprobs, counted)

    def call_part(self, index: int, number: int, call: Call | None, arguments: str, counted: bool) -> dict[str, Any]:
        """The event for the next part of a call's arguments; with `call`, its first."""
        told: dict[str, Any] = {"index": number, "function": {"arguments": arguments}}
        if call is not None:
            told |= {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
        return self._part(index, {"delta": {"tool_calls": [told]}}, None, None, counted)

    def _part(
        self, index: int, inner: dict[str, Any], finish: str | None, logprobs: dict[str, Any] | None, counted: bool
    ) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        choice = {"index": index, **inner, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head(kind), "choices": [choice], **({"usage": None} if counted else {})}

    def counts(self, counts: dict[str, int]) -> dict[str, Any]:
        """The event after the last piece, when usage was asked for."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [], "usage": counts}


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
