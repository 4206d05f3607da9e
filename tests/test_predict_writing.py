"""predict with a model that writes: a row gets the answer that it would get alone; what cannot be asked says why."""

from __future__ import annotations

from typing import Any

import pytest

from llmops.commands.writing import Writer, prompt_of
from tests.standin_writer import GENERATION, Parrot, ParrotCodec, alone, opened

CODEC = ParrotCodec()


def written(rows: list[dict[str, Any]], slots: int = 3, context: int = 200) -> dict[str, dict[str, Any]]:
    predictor = opened(Parrot(slots, context)).predictor
    told = list(Writer(predictor).write((row, f"rows.jsonl:{place}") for place, row in enumerate(rows, 1)))
    assert len(told) == len(rows)
    return {answer["origin"]: answer for answer in told}


def test_answers_are_those_that_each_row_gets_alone() -> None:
    texts = ["hello", "how are", "the parcel", "i am very", "zzz", "thank", "you.", "today"]
    told = written([{"prompt": text} for text in texts])
    for place, text in enumerate(texts, 1):
        tokens = alone(CODEC.chat([{"role": "user", "content": text}]), GENERATION["max_tokens"])
        answer = told[f"rows.jsonl:{place}"]
        assert answer["answer"] == CODEC.text(tokens)
        assert answer["tokens"] == len(tokens)
        assert answer["finish"] == ("stop" if tokens[-1] == 0 else "length")


def test_rows_that_cannot_be_asked_say_why_and_the_others_go_on() -> None:
    told = written([{"other": 1}, {"prompt": "x" * 300}, {"prompt": "hello"}, {"prompt": " "}])
    assert "neither `messages`" in told["rows.jsonl:1"]["error"]
    assert "tokens; the model takes fewer than 200" in told["rows.jsonl:2"]["error"]
    assert told["rows.jsonl:3"]["answer"]
    assert "neither" in told["rows.jsonl:4"]["error"]


def test_an_answer_ends_with_the_context() -> None:
    (answer,) = written([{"prompt": "zzz"}], slots=1, context=30).values()
    prompt = CODEC.chat([{"role": "user", "content": "zzz"}])
    assert answer["tokens"] == 30 - len(prompt)
    assert answer["finish"] == "length"


def test_a_conversation_is_asked_up_to_its_last_question() -> None:
    asked = [{"role": "user", "content": "hello"}]
    assert prompt_of(CODEC, {"messages": [*asked, {"role": "assistant", "content": "hi"}]}) == CODEC.chat(asked)
    with pytest.raises(ValueError, match="system"):
        prompt_of(CODEC, {"messages": [*asked, {"role": "system", "content": "late"}]})
