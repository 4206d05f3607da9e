"""text generation: tools, calls and what they gave are the same words in training rows and in served conversations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmops.core.protocols import Judged
from llmops.tasks.text_generation import TextGeneration
from llmops.tasks.text_generation.codec import GenerationCodec
from llmops.tasks.text_generation.config import TextGenerationSection
from llmops.tasks.text_generation.toolwords import call_words, told_call, tools_words
from tests.standin_writer import make_bundle
from tests.tiny_calls import TOOLS, called, rows

TASK, SECTION = TextGeneration(), TextGenerationSection()
BARE = [tool["function"] for tool in TOOLS]


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> GenerationCodec:
    return GenerationCodec(make_bundle(tmp_path_factory.mktemp("toolwords") / "bundle", context=2048, layers=1))


def trained(codec: GenerationCodec, row: dict[str, Any]) -> list[int]:
    """The tokens of a row before its last answer, as prepare writes them."""
    made = TASK.example(SECTION, row)
    assert isinstance(made, dict), made
    assert codec.spoken is not None
    marked = codec.spoken.marked(made["messages"])
    return marked.tokens[: marked.answer]


def test_rows_and_requests_give_the_same_tokens(codec: GenerationCodec) -> None:
    for row in rows()[::7]:
        assert codec.chat(row["messages"][:-1], row["tools"]) == trained(codec, row)


def test_the_systems_words_stand_before_the_tools(codec: GenerationCodec) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hours?"}]
    row = {"messages": [*messages, {"role": "assistant", "content": "Which city?"}], "tools": TOOLS}
    tokens = codec.chat(messages, TOOLS)
    assert tokens == trained(codec, row)
    assert codec.tokenizer.tokenizer.decode(tokens).startswith("Be brief.\n\n<tools>\n[")


def test_several_calls_and_their_results(codec: GenerationCodec) -> None:
    calls = [*called("order_status", "A1")["tool_calls"], *called("opening_hours", "Bonn", "call_2")["tool_calls"]]
    messages = [
        {"role": "user", "content": "Where is A1, and when are you open in Bonn?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_2", "content": "9 to 18"},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
    ]
    row = {"messages": [*messages, {"role": "assistant", "content": "Both are well."}], "tools": TOOLS}
    tokens = codec.chat(messages, TOOLS)
    assert tokens == trained(codec, row)
    told = codec.tokenizer.tokenizer.decode(tokens, skip_special_tokens=False)
    first = call_words("order_status", {"order": "A1"})
    assert f"<|assistant|>Let me see.\n{first}\n<tool_call>" in told
    assert "<|user|><tool_response>\n9 to 18\n</tool_response>\n<tool_response>\n\n</tool_response><|end|>" in told


def test_sharegpt_and_openai_are_written_alike(codec: GenerationCodec) -> None:
    said = [
        {"from": "human", "value": "Where is A1?"},
        {"from": "function_call", "value": '{"name":"order_status","arguments":{"order":"A1"}}'},
        {"from": "observation", "value": '{"status": "sent"}'},
        {"from": "gpt", "value": "It is sent."},
    ]
    row = {"conversations": said, "tools": json.dumps(BARE)}
    messages = [
        {"role": "user", "content": "Where is A1?"}, called("order_status", "A1"),
        {"role": "tool", "tool_call_id": "call_1", "content": '{"status": "sent"}'},
    ]  # fmt: skip
    assert codec.chat(messages, TOOLS) == trained(codec, row)


def test_tools_are_told_in_one_form() -> None:
    told = tools_words(TOOLS)
    assert told == tools_words(BARE) == tools_words(json.dumps(TOOLS))
    assert json.loads(told.removeprefix("<tools>").removesuffix("</tools>")) == BARE
    shuffled = [{"strict": True, **dict(reversed(one.items()))} for one in BARE]
    assert tools_words([{"function": one, "type": "function"} for one in shuffled]) == told
    assert tools_words("[]") == tools_words([]) == tools_words(None) == tools_words("  ") == ""
    assert tools_words("ask the weather") == "<tools>\nask the weather\n</tools>"


def test_calls_are_told_in_one_form() -> None:
    wanted = '<tool_call>\n{"name": "a", "arguments": {"b": "é"}}\n</tool_call>'
    assert call_words("a", {"b": "é"}) == call_words("a", '{"b":"\\u00e9"}') == wanted
    assert told_call('{"name": "a", "arguments": {"b": "é"}}') == wanted
    two = told_call('[{"name": "a", "arguments": {"b": "é"}}, {"name": "a", "arguments": {"b": "é"}}]')
    assert two == f"{wanted}\n{wanted}"
    assert told_call("a(b=1)") == "<tool_call>\na(b=1)\n</tool_call>"


def liked(response: dict[str, Any]) -> Judged:
    """What the log holds of a chat with tools whose answer somebody liked."""
    request = {"messages": [{"role": "user", "content": "Where is A1?"}], "tools": TOOLS}
    return Judged("chatcmpl-1", 5.0, 1, None, False, "http", 1, None, 6.0, request, response)


def test_a_liked_call_becomes_a_row_like_those_of_training() -> None:
    answer = call_words("order_status", {"order": "A1"})
    row = TASK.harvested(SECTION, liked({"answer": answer, "finish_reason": "tool_calls"}))
    asked = {"role": "user", "content": "Where is A1?"}
    given = TASK.example(SECTION, {"messages": [asked, called("order_status", "A1")], "tools": TOOLS})
    assert isinstance(row, dict) and isinstance(given, dict)
    assert row["messages"] == given["messages"]
    assert row["messages"][0]["content"].startswith("<tools>")


def test_of_an_imported_log_calls_are_read_and_several_answers_are_not() -> None:
    message = {name: value for name, value in called("order_status", "A1").items() if name != "role"}
    choice = {"message": message, "finish_reason": "tool_calls"}
    row = TASK.harvested(SECTION, liked({"choices": [choice]}))
    assert row is not None
    assert row["messages"][-1]["content"] == call_words("order_status", {"order": "A1"})
    assert TASK.harvested(SECTION, liked({"choices": [choice, choice]})) is None
    assert TASK.harvested(SECTION, liked({"choices": [{"message": "no"}]})) is None


def test_the_codec_knows_tokens_by_their_bytes(codec: GenerationCodec) -> None:
    told = codec.token_bytes()
    assert len(told) == codec.vocabulary
    assert told[:5] == [b""] * 5
    text = "naïve <|user|> 🙂"
    assert b"".join(told[token] for token in codec.letters(text)) == text.encode()
