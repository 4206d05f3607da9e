"""Mending: a row's messages as a conversation to learn from, with what was done to it, or why it cannot be one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from llmops.tasks.text_generation.messages import Off, Said
from llmops.tasks.text_generation.toolwords import Message
from llmops.tasks.text_generation.turns import greeting, in_turns

WAYS = {
    "joined": "turns joined to the one before, of the same role",
    "trailing": "turns after the last answer, left out",
    "greeting": "greetings before the user's first words, kept as context that is not learnt",
    "empty": "empty turns, left out",
    "parts": "images and other parts that are no text, left out",
    "system": "system messages further on, joined to the first",
}
"""What is done to conversations -> in words, of the turns it is done to."""


@dataclass(frozen=True)
class Answered:
    """An answer that a field holds: what of the conversation leads to it (maybe nothing), its words, and what of `WAYS`
    was done to it."""

    led: list[Said]
    words: str
    done: Counter[str]


def mended(said: Sequence[Said], join: str | None, answered: bool) -> tuple[list[Message], Counter[str]]:
    """The conversation, and how many turns (or parts) each of `WAYS` was done to.

    It ends with the last answer, or with what is asked where there is none in it (not `answered`). `join`: see
    turns.in_turns. Raises Off when no answer follows the user's words; and when a turn was nothing but an image or
    file: the words around it would speak of what the model never sees.
    """
    kept = said[: _answer_ends(said)] if answered else list(said)
    if not any(one.role == "user" and (one.content or one.parts) for one in kept):
        raise Off("the user says nothing")
    _refuse_wordless(kept)
    messages, done = in_turns([{"role": one.role, "content": one.content} for one in kept], join)
    done["trailing"] = sum(bool(one.content) for one in said[len(kept) :])
    done["greeting"] = len(greeting(messages))
    done["empty"] = sum(not one.content and not one.parts for one in said)
    done["parts"] = sum(one.parts for one in said)
    return messages, +done


def last_answer(said: Sequence[Said], field: str, join: str | None) -> Answered:
    """The last of the assistant's turns that has words; one in several messages is joined, and what follows is left
    out. Raises Off when there is none."""
    worded = [one for one in said if one.content]
    last = first = max((place for place, one in enumerate(worded) if one.role == "assistant"), default=-1)
    if last < 0:
        raise Off(f"{field} holds no words of the assistant's")
    while join is not None and first and worded[first - 1].role == "assistant":
        first -= 1
    answer = [one.content for one in worded[first : last + 1]]
    done = Counter(joined=last - first, trailing=len(worded) - last - 1)
    return Answered(worded[:first], (join or "").join(answer), +done)


def _answer_ends(said: Sequence[Said]) -> int:
    """Where the last answer ends."""
    asked = next((place for place, one in enumerate(said) if one.role == "user"), len(said))
    answers = [place for place, one in enumerate(said) if one.role == "assistant" and one.content and place > asked]
    if not answers:
        raise Off("no answer follows the user's words")
    return answers[-1] + 1


def _refuse_wordless(said: Sequence[Said]) -> None:
    """Raise Off for a turn without a word; a greeting may be one."""
    turns = [one for one in said if one.role != "system" and (one.content or one.parts)]
    asked = next(place for place, one in enumerate(turns) if one.role == "user")
    for role, run in groupby(turns[asked:], key=lambda one: one.role):
        if not any(one.content for one in run):
            raise Off(f"the {role}'s turn is an image or file without words", "what follows is about it")
