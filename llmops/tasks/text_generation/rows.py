"""Rows as tokens: documents, conversations, pairs of answers. What does not fit into the context is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmops.core.protocols import Row
from llmops.tasks.text_generation.chat import Chat, Marked
from llmops.tasks.text_generation.config import Learn
from llmops.tasks.text_generation.fitting import Cut, Fitted, fitted
from llmops.tasks.text_generation.guard import GuardedTokenizer

BATCH = 256
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tokens:
    """One row of the arrays: `tokens` int32 and `trained` uint8, equally long; the latter marks the tokens whose
    prediction is learnt. `document` is the number of the document it is a part of (of the example, for conversations);
    `cut` (see fitting.Cut) and `alike` are about its example."""

    tokens: Array
    trained: Array
    document: int
    cut: Cut = ""
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


def conversations(rows: Sequence[Row], chat: Chat, limits: Limits, learn: Learn) -> Iterator[Tokens]:
    """Conversations, the assistant's words trained in every answer or in the last; one that is too long is cut as
    `fitted` says. Raises DataError, with the row, when the template cannot write one."""
    for number, row in enumerate(rows):
        found = fitted(chat, row, [[]], limits.context)
        [marked] = found.marked
        trained = marked.trained if learn == "every-answer" else _answer_alone(marked)
        yield _tokens(found, marked, trained, number, limits)


def pairs(rows: Sequence[Row], chat: Chat, limits: Limits) -> Iterator[Tokens]:
    """Two rows for each preference, the chosen answer's and the rejected one's, only the answers trained; a prompt that
    is too long is cut alike in both. Raises DataError as `conversations` does."""
    for number, row in enumerate(rows):
        answers = [[{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")]
        found = fitted(chat, row, answers, limits.context)
        for marked in found.marked:
            yield _tokens(found, marked, _answer_alone(marked), number, limits)


def _answer_alone(marked: Marked) -> list[bool]:
    return [at >= marked.answer for at in range(len(marked.tokens))]


def _tokens(found: Fitted, marked: Marked, trained: Sequence[bool], number: int, limits: Limits) -> Tokens:
    """The tokens before the answer that stay, and as much of the answer as fits. Of an exchange that is too long alone,
    the end of what is asked stays, and before it the system's words, or where these are too long as well a begin token.
    """
    kept = found.prompt(limits.context)
    head = found.head if found.head < kept < marked.answer else 0
    places = np.r_[0:head, max(0, marked.answer - kept + head) : len(marked.tokens)][: limits.context]
    tokens, marks = np.asarray(marked.tokens, np.int32)[places], np.asarray(trained, np.uint8)[places]
    if places[0] and marked.tokens[0] == limits.begin:
        tokens[0] = limits.begin
    marks[:1] = 0  # nothing stands before it to predict it from
    return Tokens(tokens, marks, number, found.cut, marked.alike)
