"""Fitting: a conversation that is longer than the context loses its oldest turns, and never a part of one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.tasks.text_generation.chat import Chat, Marked
from llmops.tasks.text_generation.toolwords import Message, is_result

Cut = Literal["", "turns", "words"]
"""What a row lost: nothing, its oldest turns, or words of its last exchange, which alone is longer than the context."""


@dataclass(frozen=True)
class Fitted:
    """A conversation with each of its endings as tokens, and what it lost; `head` counts the tokens before what is
    asked (the system's words and the template's own) where words were lost."""

    marked: list[Marked]
    cut: Cut
    head: int = 0

    def prompt(self, context: int) -> int:
        """Tokens before the answer that stay: all, or what the answer leaves, but not less than half of the context."""
        asked = max(marked.answer for marked in self.marked)
        answer = max(len(marked.tokens) - marked.answer for marked in self.marked)
        return min(asked, max(context - answer, context // 2))


def fitted(chat: Chat, row: Row, endings: Sequence[list[Message]], context: int) -> Fitted:
    """The row's messages before each of `endings` (the answers of a preference), with as many of the last turns as
    `context` tokens hold; the system's words stay. Raises DataError, with the row, when the template refuses it."""
    messages: list[Message] = row["messages"]
    whole = _written(chat, row, messages, endings)
    if _longest(whole) <= context:
        return Fitted(whole, "")
    shorter = [messages, *_shorter(messages)]
    at = bisect_left(shorter, True, key=lambda kept: _longest(_written(chat, row, kept, endings)) <= context)
    kept = shorter[min(at, len(shorter) - 1)]
    marked = _written(chat, row, kept, endings)
    return Fitted(marked, "turns") if at < len(shorter) else Fitted(marked, "words", chat.head([*kept, *endings[0]]))


def _shorter(messages: Sequence[Message]) -> list[list[Message]]:
    """The conversation without its greeting, its oldest exchange, its two oldest ..., down to the last one. An exchange
    begins where the user speaks; results of tools belong to the exchange in which they were asked for."""
    found = []
    for place, (before, one) in enumerate(pairwise(messages), 1):
        system = [kept for kept in messages[:place] if kept["role"] == "system"]
        begins = one["role"] == "user" and before["role"] != "user" and not is_result(one)
        if begins and len(system) < place:
            found.append([*system, *messages[place:]])
    return found


def _written(chat: Chat, row: Row, messages: Sequence[Message], endings: Sequence[list[Message]]) -> list[Marked]:
    try:
        return [chat.marked([*messages, *ending]) for ending in endings]
    except ValueError as problem:
        joined = " `task.join` brings turns into an order that it writes;" if chat.join is None else ""
        raise DataError(
            f"A conversation cannot be written for this model: {problem}.",
            str(row.get("origin", "")),
            f"mend the row, or take a model whose chat template allows it (chat_template.jinja in its folder).{joined}",
        ) from problem


def _longest(marked: Sequence[Marked]) -> int:
    return max(len(one.tokens) for one in marked)
