"""The shapes that rows of chats and preferences come in, recognised by their columns; what is off is said by its field.

| shape               | columns                                                                        |
|---------------------|--------------------------------------------------------------------------------|
| OpenAI              | messages: [{role, content}]; tool calls and tool results too                   |
| ShareGPT            | conversations: [{from, value}], system, tools                                  |
| alpaca              | instruction, input, output, system, history                                    |
| prompt/completion   | prompt (text or messages) and completion, response, output or answer           |
| question/answer     | question and answer or response                                                |
| any of these        | without its answer, and with chosen and rejected: a preference                 |

Tools, calls and what these gave are words like others; toolwords.py says which. The order of turns is mended;
mending.py says how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from llmops.core.protocols import Row
from llmops.tasks.text_generation.mending import Answered, last_answer, mended
from llmops.tasks.text_generation.messages import Off, Said, items_of, listed, message, plain
from llmops.tasks.text_generation.toolwords import Message, tools_words, with_words

WHOSE = {"system": "the system's", "user": "the user's", "assistant": "the assistant's"}
LISTS = ("messages", "conversations", "conversation")
ANSWERS = ("completion", "response", "output", "answer")
PAIR = ("chosen", "rejected")


@dataclass(frozen=True)
class Spoken:
    """A conversation as a row tells it. With `chosen` and `rejected`, `messages` end with the user's. `done`: what was
    mended (names of mending.WAYS), and how often."""

    messages: list[Message]
    chosen: str | None = None
    rejected: str | None = None
    done: Counter[str] = field(default_factory=Counter)


def chat(row: Row, join: str | None) -> Spoken:
    """The conversation of a row, which ends with the assistant's message; `join`: see turns.in_turns. Raises Off."""
    if any(_given(row, name) for name in PAIR):
        raise Off("`chosen` and `rejected` make it a preference", "`objective: preferences` learns from those")
    if row.get("label") is False:
        raise Off("label is false: an answer that was disliked")
    messages, done = mended(_said(row, join, answered=True), join, answered=True)
    return Spoken(_with_system(row, messages), done=done)


def preference(row: Row, join: str | None) -> Spoken:
    """The conversation of a row and the two answers to its last message; `join` as in `chat`. Raises Off."""
    if not any(_given(row, name) for name in PAIR) and isinstance(row.get("label"), bool):
        raise Off("`label` is a thumb for one answer", "a preference needs `chosen` and `rejected`")
    for name in PAIR:
        if not _given(row, name):
            raise Off(f"{name} is missing")
    chosen, rejected = (_answer(row[name], name, join) for name in PAIR)
    led = [answer.led for answer in (chosen, rejected) if answer.led] or [_said(row, join, answered=False)]
    (messages, done), *others = [mended(said, join, answered=False) for said in led]
    if any(other != messages for other, _ in others):
        raise Off("chosen and rejected answer different conversations")
    if messages[-1]["role"] != "user":
        raise Off(f"ends with {WHOSE[messages[-1]['role']]} message", "chosen and rejected answer the user's")
    if chosen.words == rejected.words:
        raise Off("chosen and rejected are equal")
    return Spoken(_with_system(row, messages), chosen.words, rejected.words, done + chosen.done + rejected.done)


def words(row: Row, field: str) -> str:
    """A field that must hold text, its ends trimmed. Raises Off when it is missing, empty or something else."""
    if not _given(row, field):
        raise Off(f"{field} is missing")
    return _text(row[field], field)


def document(row: Row, field: str) -> str:
    """A document, as it is: parts of one must fit together again. Raises Off as `words` does."""
    words(row, field)
    return str(row[field])


def _given(row: Row, field: str) -> bool:
    """Whether the field is there; tables write an absent one as None or NaN."""
    value = row.get(field)
    return value is not None and not (isinstance(value, float) and isnan(value))


def _text(value: Any, field: str) -> str:
    text = plain(value, field)
    if not text:
        raise Off(f"{field} is empty")
    return text


def _said(row: Row, join: str | None, answered: bool) -> list[Said]:
    """The messages of a row of any shape; `answered` says whether the row must hold its answer."""
    name = next((name for name in LISTS if _given(row, name)), None)
    if name is not None:
        return listed(row[name], name)
    if _given(row, "instruction"):
        return _alpaca(row, answered)
    for asked in ("prompt", "question", "query"):
        if _given(row, asked):
            return _asked(row, asked, join, answered)
    columns = ", ".join(str(name) for name in list(row)[:8]) or "none"
    raise Off(f"no known shape of a conversation (columns: {columns})")


def _alpaca(row: Row, answered: bool) -> list[Said]:
    parts = [str(row[name]).strip() for name in ("instruction", "input") if _given(row, name)]
    user = "\n".join(part for part in parts if part)
    if not user:
        raise Off("instruction is empty")
    answer = [Said("assistant", words(row, "output"))] if answered else []
    return [*_history(row), Said("user", user), *answer]


def _history(row: Row) -> list[Said]:
    if not _given(row, "history"):
        return []
    said: list[Said] = []
    for number, turn in enumerate(items_of(row["history"], "history")):
        if hasattr(turn, "tolist"):
            turn = turn.tolist()
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise Off("history is no list of pairs", f"history[{number}] is not a pair of question and answer")
        for place, role in enumerate(("user", "assistant")):
            told = "" if turn[place] is None else plain(turn[place], f"history[{number}][{place}]")
            said.append(Said(role, told))
    return said


def _asked(row: Row, asked: str, join: str | None, answered: bool) -> list[Said]:
    value = row[asked]
    said = (
        listed(value, asked)
        if isinstance(value, list | tuple) or hasattr(value, "tolist")
        else [Said("user", _text(value, asked))]
    )
    if not answered:
        return said
    given = [name for name in ANSWERS if _given(row, name)]
    if not given:
        raise Off(f"the answer to {asked} is missing (one of: {', '.join(ANSWERS)})")
    if len(given) > 1:
        raise Off(f"{' and '.join(given)} could each be the answer to {asked}", "keep one of them")
    answer = _answer(row[given[0]], given[0], join)
    if answer.led:
        raise Off(f"{given[0]} holds more than the answer")
    return [*said, Said("assistant", answer.words)]


def _answer(value: Any, field: str, join: str | None) -> Answered:
    """An answer given as text, as a message or as messages."""
    if isinstance(value, Mapping):
        return last_answer([message(value, field)], field, join)
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        return last_answer(listed(value, field), field, join)
    return Answered([], _text(value, field), Counter())


def _with_system(row: Row, messages: list[Message]) -> list[Message]:
    """The row's own `system` and `tools` in front."""
    parts = [str(row["system"]).strip()] if _given(row, "system") else []
    tools = row.get("tools") if _given(row, "tools") else None
    parts.append(tools_words(tools if tools is None or isinstance(tools, str) else list(items_of(tools, "tools"))))
    return with_words(messages, "\n\n".join(part for part in parts if part))
