"""Chats of a shop's assistant that looks things up, made by seed from the words of shop_words.py.

Held-out questions have other phrasings and other arguments than the training's: no city, product or country of theirs,
and no number, stands in a training row.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from benchmarks.shop_words import (
    CLOSERS,
    COUNTRIES,
    FIRSTS,
    LANDS,
    LASTS,
    LOOKS,
    LOOKUPS,
    NEW_CITIES,
    NEW_COUNTRIES,
    NEW_OPENERS,
    NEW_PRODUCTS,
    NEW_REASONS,
    OPENERS,
    REASONS,
    SMALL_TALK,
    THINGS,
    Lookup,
)  # fmt: skip

Message = dict[str, Any]
OFFERED = (2, 4)
"""Tools in one request: at least, at most."""


def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Training chats of one to three exchanges, with the same tools in each: a question, its call, what that gave and
    what is said then; one exchange of ten is small talk."""
    dice = random.Random(seed)
    ways = {lookup.name: lookup.sentences() for lookup in LOOKUPS}
    for number in range(count):
        first = LOOKUPS[number % len(LOOKUPS)]
        tools, listed = offered(first, dice)
        messages: list[Message] = []
        for place in range(dice.randint(1, 3)):
            lookup = dice.choice(listed) if place else first
            messages += small_talk(dice) if dice.random() < 0.1 else exchange(lookup, ways[lookup.name], place, dice)
        yield {"messages": messages, "tools": tools}


def exchange(lookup: Lookup, ways: list[str], place: int, dice: random.Random) -> list[Message]:
    """A question with all that follows it; `place` numbers its call."""
    given = arguments(lookup, dice, held_out=False)
    said = dice.choice(OPENERS) + dice.choice(ways).format(**given) + dice.choice(CLOSERS)
    return [
        {"role": "user", "content": said},
        called(lookup.name, given, f"call_{place}"),
        {"role": "tool", "tool_call_id": f"call_{place}", "content": lookup.gave},
        {"role": "assistant", "content": lookup.told.format(**given)},
    ]


def small_talk(dice: random.Random) -> list[Message]:
    """Words that ask for nothing, and their answer."""
    answer, ways = dice.choice(list(SMALL_TALK.items()))
    return [{"role": "user", "content": dice.choice(ways)}, {"role": "assistant", "content": answer}]


def questions(each: int, seed: int) -> Iterator[tuple[str, Lookup, dict[str, str], list[dict[str, Any]]]]:
    """Held-out questions: its words, what must be called with which arguments, and the tools that are offered; every
    phrasing `each` times."""
    dice = random.Random(seed)
    for lookup in LOOKUPS:
        assert not {_bare(one) for one in lookup.held_out} & {_bare(one) for one in lookup.sentences()}
        for phrasing in lookup.held_out * each:
            given = arguments(lookup, dice, held_out=True)
            yield dice.choice(NEW_OPENERS) + phrasing.format(**given), lookup, given, offered(lookup, dice)[0]


def _bare(sentence: str) -> str:
    return sentence.lower().strip(" .?!")


def offered(lookup: Lookup, dice: random.Random) -> tuple[list[dict[str, Any]], list[Lookup]]:
    """Some tools in any order, the one that is needed among them; and what they are."""
    others = dice.sample([one for one in LOOKUPS if one is not lookup], dice.randint(*OFFERED) - 1)
    listed = dice.sample([lookup, *others], len(others) + 1)
    return [one.tool() for one in listed], listed


def called(name: str, given: dict[str, str], key: str) -> Message:
    """The assistant's message with a call."""
    function = {"name": name, "arguments": json.dumps(given)}
    call = {"id": key, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def arguments(lookup: Lookup, dice: random.Random, held_out: bool) -> dict[str, str]:
    """Arguments drawn by chance. Numbers that are held out can be divided by seven, those of the training can't (odd
    and even ones would teach the last digit); places, goods and most countries of the training are put together from
    syllables and words."""
    number = 7 * dice.randint(1_429, 14_284) + (0 if held_out else dice.randint(1, 6))
    made = {
        "city": dice.choice(FIRSTS) + dice.choice(LASTS),
        "product": f"{dice.choice(LOOKS)} {dice.choice(THINGS)}",
        "country": dice.choice([dice.choice(COUNTRIES), dice.choice(FIRSTS) + dice.choice(LANDS)]),
        "reason": dice.choice(REASONS),
    }
    new = {
        "city": dice.choice(NEW_CITIES), "product": dice.choice(NEW_PRODUCTS), "country": dice.choice(NEW_COUNTRIES),
        "reason": dice.choice(NEW_REASONS),
    }  # fmt: skip
    drawn = {"order": f"{number}", "card": f"{dice.choice('GV')}{number}", **(new if held_out else made)}
    return {name: drawn[name] for name in lookup.arguments}
