"""Rows as tokens: documents, conversations, pairs of answers. What does not fit into the context is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Row
from llmops.tasks.text_generation.chat import Chat, Marked, Messages
from llmops.tasks.text_generation.guard import GuardedTokenizer

BATCH = 256
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tokens:
    """One row of the arrays: `tokens` int32 and `trained` uint8, equally long; the latter marks the tokens whose
    prediction is learnt. `document` is the number of the document it is a part of (of the example, for conversations);
    `cut` and `alike` are about its example."""

    tokens: Array
    trained: Array
    document: int
    cut: bool = False
    alike: bool = True


@dataclass(frozen=True)
class Limits:
    """What a model sees at once: `context` tokens, the first of which is `begin` in models that have such a token."""

    context: int
    begin: int | None


def documents(rows: Sequence[Row], tokenizer: GuardedTokenizer, begin: int | None, end: int) -> Iterator[Tokens]:
    """Documents whole, however long: the learner cuts windows.

    Rows that follow each other in one file are parts of one document. A document begins with `begin`, where the model
    has such a token, else its first token is predicted from nothing, which is not learnt; it ends with `end`, unless
    the next row of the same file is a later part of it.
    """
    number = -1
    for batch in range(0, len(rows), BATCH):
        encoded = tokenizer.plain([row["document"] for row in rows[batch : batch + BATCH]])
        for place, tokens in enumerate(encoded, batch):
            first = place == 0 or not _follows(rows[place - 1], rows[place])
            number += first
            head = [begin] if first and begin is not None else []
            last = place + 1 == len(rows) or not _same(rows[place], rows[place + 1])
            whole = [*head, *tokens, *([end] if last else [])]
            trained = np.ones(len(whole), np.uint8)
            trained[:1] = not first
            yield Tokens(np.asarray(whole, np.int32), trained, number)


def _same(row: Row, other: Row) -> bool:
    """Whether two rows are parts of one document."""
    return row.get("document_id") is not None and row.get("document_id") == other.get("document_id")


def _follows(before: Row, row: Row) -> bool:
    """Whether `row` is the part right after `before`."""
    return _same(before, row) and row.get("part") == before.get("part", 0) + 1


def conversations(rows: Sequence[Row], chat: Chat, limits: Limits) -> Iterator[Tokens]:
    """Conversations, all of the assistant's words trained; one that is too long loses its oldest exchanges, then the
    beginning of what is left. Raises DataError, with the row, when the template cannot write one."""
    for number, row in enumerate(rows):
        messages: Messages = row["messages"]
        marked = _marked(chat, messages, row)
        cut = len(marked.tokens) > limits.context
        while len(marked.tokens) > limits.context and (shorter := _shortened(messages)) is not None:
            messages, marked = shorter, _marked(chat, shorter, row)
        kept = _kept(marked.answer, len(marked.tokens) - marked.answer, limits.context)
        yield _tokens(marked, marked.trained, number, kept, limits, cut)


def pairs(rows: Sequence[Row], chat: Chat, limits: Limits) -> Iterator[Tokens]:
    """Two rows for each preference, the chosen answer's and the rejected one's, only the answers trained; a prompt that
    is too long is cut alike in both. Raises DataError as `conversations` does."""
    for number, row in enumerate(rows):
        messages: Messages = row["messages"]
        both = _both(chat, messages, row)
        cut = _longest(both) > limits.context
        while _longest(both) > limits.context and (shorter := _shortened(messages)) is not None:
            messages, both = shorter, _both(chat, shorter, row)
        answers = max(len(marked.tokens) - marked.answer for marked in both)
        kept = _kept(max(marked.answer for marked in both), answers, limits.context)
        for marked in both:
            only = [at >= marked.answer for at in range(len(marked.tokens))]
            yield _tokens(marked, only, number, kept, limits, cut)


def _both(chat: Chat, messages: Messages, row: Row) -> list[Marked]:
    answers = [{"role": "assistant", "content": row[name]} for name in ("chosen", "rejected")]
    return [_marked(chat, [*messages, answer], row) for answer in answers]


def _longest(both: Sequence[Marked]) -> int:
    return max(len(marked.tokens) for marked in both)


def _marked(chat: Chat, messages: Messages, row: Row) -> Marked:
    try:
        return chat.marked(messages)
    except ValueError as problem:
        raise DataError(
            f"A conversation cannot be written for this model: {problem}.",
            str(row.get("origin", "")),
            "mend the row, or take a model whose chat template allows it (chat_template.jinja in its folder).",
        ) from problem


def _shortened(messages: Messages) -> Messages | None:
    """The conversation without its oldest exchange; None when there is but one."""
    first = 1 if messages[0]["role"] == "system" else 0
    asked = [at for at in range(first, len(messages)) if messages[at]["role"] == "user"]
    return None if len(asked) < 2 else [*messages[:first], *messages[asked[1] :]]


def _kept(prompt: int, answer: int, context: int) -> int:
    """Tokens of a prompt that stay: all, or what the answer leaves, but not less than half of the context."""
    return min(prompt, max(context - answer, context // 2))


def _tokens(marked: Marked, trained: Sequence[bool], number: int, kept: int, limits: Limits, cut: bool) -> Tokens:
    """The last `kept` tokens before the answer, and as much of the answer as fits; a begin token stays in front."""
    first = max(0, marked.answer - kept)
    last = first + limits.context
    tokens, marks = np.asarray(marked.tokens[first:last], np.int32), np.asarray(trained[first:last], np.uint8)
    if first and marked.tokens[0] == limits.begin:
        tokens[0] = limits.begin
    marks[:1] = 0  # nothing stands before it to predict it from
    return Tokens(tokens, marks, number, cut, marked.alike)
