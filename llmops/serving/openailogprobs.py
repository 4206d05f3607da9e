"""Log probabilities as OpenAI's clients read them: those of chats token by token, those of completions as lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmops.core.protocols import WritingCodec
from llmops.serving.logprobs import Named

BYTES = "bytes:"
"""How the name of a token begins that is no whole character; the bytes follow as \\xc3\\xa9."""


class ChatLogprobs:
    """The `logprobs` of /v1/chat/completions. Tokens of calls are told like those of words."""

    def __init__(self, codec: WritingCodec) -> None:
        self.codec = codec

    def add(self, tokens: Sequence[Named]) -> dict[str, Any]:
        """What these tokens add."""
        content = [
            {**self._token(token.token, token.logprob), "top_logprobs": [self._token(*one) for one in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        piece = self.codec.piece(token)
        return {"token": piece, "logprob": logprob, "bytes": _bytes(piece)}


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


def merged(said: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The lists of all pieces, one after the other; None without any."""
    if not said:
        return None
    return {
        name: [one for part in said for one in part[name]] if isinstance(value, list) else value
        for name, value in said[0].items()
    }


def _bytes(piece: str) -> list[int]:
    if piece.startswith(BYTES + "\\x"):
        return list(bytes.fromhex(piece.removeprefix(BYTES).replace("\\x", "")))
    return list(piece.encode())
