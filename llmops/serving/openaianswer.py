"""What OpenAI's clients get: answers, the events of a stream, and log probabilities, in the shapes they read."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops.core.protocols import WritingCodec
from llmops.records.traffic import new_id
from llmops.serving.logprobs import Named

DONE = b"data: [DONE]\n\n"
BYTES = "bytes:"
"""How the name of a token begins that is no whole character; the bytes follow as \\xc3\\xa9."""


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
    codec: WritingCodec
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def fresh(cls, chat: bool, model: str, version: int, codec: WritingCodec) -> Shape:
        """One with an id of its own, which feedback may name."""
        return cls(chat, model, version, codec, f"{'chatcmpl' if chat else 'cmpl'}-{new_id()}")

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model,
            "system_fingerprint": f"version-{self.version}",
        }  # fmt: skip

    def whole(self, text: str, finish: str, logprobs: Any, counts: dict[str, int]) -> dict[str, Any]:
        """An answer in one piece."""
        choice: dict[str, Any] = {"index": 0, "logprobs": logprobs, "finish_reason": finish}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": counts}

    def first(self, counted: bool) -> dict[str, Any] | None:
        """The event that opens a chat; completions have none. `counted`: whether the stream will tell its usage."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._part({"delta": delta}, None, None, counted) if self.chat else None

    def part(self, text: str, finish: str | None, logprobs: Any, counted: bool) -> dict[str, Any]:
        """The event for one piece of text."""
        inner: dict[str, Any] = {"delta": {"content": text} if text else {}} if self.chat else {"text": text}
        return self._part(inner, finish, logprobs, counted)

    def _part(self, inner: dict[str, Any], finish: str | None, logprobs: Any, counted: bool) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        choice = {"index": 0, **inner, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head(kind), "choices": [choice], **({"usage": None} if counted else {})}

    def counts(self, counts: dict[str, int]) -> dict[str, Any]:
        """The event after the last piece, when usage was asked for."""
        return {
            **self._head("chat.completion.chunk" if self.chat else "text_completion"),
            "choices": [],
            "usage": counts,
        }

    def logprobs(self, tokens: Sequence[Named], told: LegacyLogprobs | None) -> Any:
        """Log probabilities of a piece; `told` keeps the offsets of a completion from piece to piece."""
        if not self.chat:
            assert told is not None
            return told.add(tokens)
        content = [
            {**self._token(token.token, token.logprob), "top_logprobs": [self._token(*one) for one in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        piece = self.codec.piece(token)
        return {"token": piece, "logprob": logprob, "bytes": _bytes(piece)}


def _bytes(piece: str) -> list[int]:
    if piece.startswith(BYTES + "\\x"):
        return list(bytes.fromhex(piece.removeprefix(BYTES).replace("\\x", "")))
    return list(piece.encode())


class LegacyLogprobs:
    """The `logprobs` of /v1/completions: parallel lists, and offsets into the text.

    Beside OpenAI's lists stand `token_ids` and `top_token_ids` (likeliest first): names of tokens may be equal where
    ids are not.
    """

    def __init__(self, codec: WritingCodec) -> None:
        self.codec, self._writer, self._offset = codec, codec.writer(), 0

    def add(self, tokens: Sequence[Named], first: int | None = None) -> dict[str, list[Any]]:
        """The lists for these tokens. `first` is the token that nothing came before, whose probability nobody knows."""
        lists: dict[str, list[Any]] = {
            name: []
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset", "token_ids", "top_token_ids")
        }
        if first is not None:
            self._append(lists, first, None, None)
        for token in tokens:
            self._append(lists, token.token, token.logprob, token.top)
        return lists

    def _append(
        self, lists: dict[str, list[Any]], token: int, logprob: float | None, top: Sequence[tuple[int, float]] | None
    ) -> None:
        lists["tokens"].append(self.codec.piece(token))
        lists["token_logprobs"].append(logprob)
        lists["top_logprobs"].append(None if top is None else self._named(top))
        lists["text_offset"].append(self._offset)
        lists["token_ids"].append(token)
        lists["top_token_ids"].append(None if top is None else [one for one, _ in top])
        self._offset += len(self._writer.push(token))

    def _named(self, top: Sequence[tuple[int, float]]) -> dict[str, float]:
        named: dict[str, float] = {}
        for token, logprob in top:
            named.setdefault(self.codec.piece(token), logprob)
        return named
