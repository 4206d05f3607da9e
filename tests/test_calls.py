"""serving: words and calls of tools are told apart in an answer's text, however it is cut into pieces."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from llmops.serving.calls import CallReader, Grown

MARKS = ("<tool_call>", "</tool_call>")
TRICKY = {"number": 5, "said": 'a}"{</tool_call>\\', "inner": {"list": [{}, "}"]}}


def call(name: str, arguments: Any) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def read(text: str, held: bool, dice: random.Random) -> tuple[str, list[tuple[str, str]], list[Grown]]:
    """Words, calls and all that was told, of a text that comes in pieces of one to nine letters."""
    reader, grown = CallReader(MARKS, ["order", "hours"], held), []
    while text:
        size = dice.randint(1, 9)
        grown += reader.push(text[:size])
        text = text[size:]
    grown += reader.end()
    return "".join(one.words for one in grown), [(one.name, one.arguments) for one in reader.calls], grown


ORDER, HOURS = call("order", TRICKY), call("hours", {})
BOTH = [("order", json.dumps(TRICKY)), ("hours", "{}")]
WHOLE: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("just words, spaces at the end  ", "just words, spaces at the end  ", []),
    (ORDER, "", BOTH[:1]),
    (f"Let me see.\n{ORDER}", "Let me see.", BOTH[:1]),
    (f"{ORDER}\n{HOURS}\n", "", BOTH),
    (f"{ORDER} and {HOURS} so", " and so", BOTH),
    ("half a mark <tool_c", "half a mark <tool_c", []),
    ("a mark <tool_call> of nothing", "a mark <tool_call> of nothing", []),
]
BROKEN = [
    "Well <tool_call>\n{bad}\n</tool_call> then", call("nobody", {}), call("order", "text"), call("order", [1]),
    '<tool_call>\n{"name": "order", "arguments": {"a": nope}}\n</tool_call>', "<tool_call>5</tool_call>",
    '<tool_call>\n{"name": "order", "arguments": {}, "more": 1\n</tool_call>', ORDER[:-3], ORDER[: len(ORDER) // 2],
]  # fmt: skip


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(("text", "words", "calls"), WHOLE, ids=range(len(WHOLE)))
def test_words_and_calls(text: str, words: str, calls: list[tuple[str, str]], held: bool) -> None:
    for seed in range(60):
        told, found, grown = read(text, held, random.Random(seed))
        assert (told, found) == (words, calls)
        for number, (_, arguments) in enumerate(calls):
            mine = [one for one in grown if one.number == number]
            assert [one.begins for one in mine] == [True] + [False] * (len(mine) - 1)
            assert "".join(one.arguments for one in mine) == arguments


@pytest.mark.parametrize("text", BROKEN)
def test_what_looks_like_a_call_and_is_none_stays_words(text: str) -> None:
    for seed in range(60):
        assert read(text, False, random.Random(seed))[:2] == (text, [])


def test_a_held_call_is_told_while_it_is_written() -> None:
    reader = CallReader(MARKS, ["order"], held=True)
    assert reader.push('One moment. <tool_call>\n{"name": "ord') == [Grown(words="One moment.")]
    assert reader.push('er", "arguments": {"num') == [Grown(number=0, arguments='{"num', begins=True)]
    assert reader.push('ber": 5}') == [Grown(number=0, arguments='ber": 5}')]
    assert reader.push("}\n</tool_call>") == []
    assert reader.calls[0].id.startswith("call_")
    cut = CallReader(MARKS, ["order"], held=True)
    cut.push(ORDER[:50])
    assert cut.end() == []
    assert ORDER.find(cut.calls[0].arguments) > 0
