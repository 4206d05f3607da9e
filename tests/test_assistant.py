"""A chat that answers from the team's own entries: asked by OpenAI's client, followed up, refused, logged."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from llmops.core.protocols import Conversing
from llmops.project import open_project
from llmops.records.trafficreader import TrafficReader
from llmops.tasks.answering import Answering
from llmops.tasks.answering.chatting import followed
from llmops.tasks.answering.config import AnsweringSection
from llmops.tasks.answering.messages import AnsweringRequest, AnsweringResponse
from llmops.tasks.withheld import Withheld
from tests import standin, tiny_answering
from tests.interface import Interface
from tests.standin import Caller
from tests.test_answering import Opened, World
from tests.test_loop import LLMOPS, llmops
from tests.tiny_assistant import ASKED, CHAT, ENTRY, STRANGE, UNKNOWN, changed, make, user

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("assistant"))


@pytest.fixture(scope="module")
def bundle(world: World) -> Path:
    return make(world)


@pytest.fixture(scope="module")
def traffic(world: World) -> Path:
    return world.folder / "traffic.db"


@pytest.fixture(scope="module")
def port(bundle: Path, traffic: Path) -> Iterator[int]:
    with standin.serve_bundle(bundle, traffic, max_text_chars=1000) as (_, port):
        yield port


@pytest.fixture
def client(port: int) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_official_client_gets_the_entry_and_its_source(client: OpenAI) -> None:
    said = client.chat.completions.create(model="any", messages=[{"role": "system", "content": "Hi."}, *user(ASKED)])
    [choice] = said.choices
    assert choice.message.content == f"{ENTRY}\n\nSource: delivery"
    assert (choice.finish_reason, choice.message.role, said.model) == ("stop", "assistant", "any")
    assert choice.message.annotations is not None
    [cited] = choice.message.annotations
    place = cited.url_citation
    assert (cited.type, place.url, place.title) == ("url_citation", "delivery", "delivery")
    assert choice.message.content[place.start_index : place.end_index] == "delivery"
    found = choice.message.model_extra["found"]  # type: ignore[index]
    assert (found["answer"], found["source"], found["abstained"]) == (ENTRY, "delivery", False)
    assert said.usage is not None and said.usage.completion_tokens > said.usage.prompt_tokens > 5
    assert [model.id for model in client.models.list()] == ["answering"]
    assert client.models.retrieve("answering").id == "answering"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.models.retrieve("gpt")


def test_it_is_what_predict_says(client: OpenAI, port: int) -> None:
    for question in (ASKED, STRANGE):
        plain = Caller(port)("POST", "/v1/predict", {"question": question})[1]
        said = client.chat.completions.create(model="any", messages=user(question))
        found = said.choices[0].message.model_extra["found"]  # type: ignore[index]
        assert found == {name: value for name, value in plain.items() if name not in ("id", "version")}


def test_a_stream_says_the_same(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="any", messages=user(ASKED))
    options: Any = {"stream_options": {"include_usage": True}}
    parts = list(client.chat.completions.create(model="any", messages=user(ASKED), stream=True, **options))
    assert len({part.id for part in parts}) == 1
    deltas = [part.choices[0].delta for part in parts if part.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert [part.choices[0].finish_reason for part in parts if part.choices][-1] == "stop"
    assert whole.choices[0].message.annotations is not None
    told = [one.model_dump() for one in whole.choices[0].message.annotations]
    assert deltas[-1].model_extra["annotations"] == told  # type: ignore[index]
    assert parts[-1].usage == whole.usage


def test_it_says_that_it_does_not_know(client: OpenAI) -> None:
    [choice] = client.chat.completions.create(model="any", messages=user(STRANGE)).choices
    assert (choice.message.content, choice.finish_reason, choice.message.annotations) == (UNKNOWN, "stop", [])
    withheld = choice.message.model_extra["found"]["withheld"]  # type: ignore[index]
    assert withheld["answer"] and withheld["why"].startswith("less sure (")


def test_the_source_may_be_left_out_of_the_words(bundle: Path, tmp_path: Path) -> None:
    opened = Opened(changed(bundle, tmp_path / "bundle", chat={"source": None}))
    assert isinstance(opened.codec, Conversing)
    [said] = opened.answer(opened.codec.turn([ASKED]))
    assert said.words == ENTRY
    assert [(one.source, one.start, one.end) for one in said.sources] == [("delivery", 0, len(ENTRY))]


def test_an_answer_may_be_cut(client: OpenAI) -> None:
    [whole] = client.chat.completions.create(model="any", messages=user(ASKED)).choices
    said = client.chat.completions.create(model="any", messages=user(ASKED), max_tokens=4, max_completion_tokens=3)
    [choice] = said.choices
    assert (choice.message.content, choice.finish_reason) == ("Delivery: parcel", "length")
    assert said.usage is not None and said.usage.completion_tokens == 3
    assert choice.message.annotations == [], "what is cut off is cited no more"
    again = client.chat.completions.create(model="any", messages=user(ASKED), max_tokens=500)
    assert again.choices[0].message == whole.message


def response(entry: str, sure: bool) -> AnsweringResponse:
    withheld = None if sure else Withheld(answer="a", probability=0.1, why="less sure")
    return AnsweringResponse(
        answer="a" if sure else None, withheld=withheld, entry=entry, source=None, score=0.1, confidence=0.1,
        alternatives=[],
    )  # fmt: skip


FOLLOWED = {
    "its own words fit": (("a", True), ("b", True), ("c", True), 0),
    "the turn before gives the subject": (("a", False), ("b", True), ("c", True), 1),
    "the turn before would be answered again": (("a", False), ("c", True), ("c", True), 0),
    "both together are sure, the turn before was not": (("a", False), ("c", True), ("c", False), 1),
    "nothing fits": (("a", False), ("b", False), ("c", True), 0),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_which_reading_of_a_follow_up_is_answered(name: str) -> None:
    *found, wanted = FOLLOWED[name]
    assert followed([response(*one) for one in found]) == wanted


def test_a_follow_up_is_read_with_the_turn_before(bundle: Path, tmp_path: Path) -> None:
    plain = Opened(changed(bundle, tmp_path / "plain", threshold=0.0))
    words = tiny_answering.TOPICS["delivery"][0].split()
    pairs = list(itertools.permutations(words, 2))

    def sure(*texts: str) -> list[float]:
        return [one.confidence for one in plain.answer(*(AnsweringRequest(question=text) for text in texts))]

    # Two words that are surer together than each alone; the threshold lies between.
    gain, single, both, pair = max(
        (together - max(one, other), max(one, other), together, (before, last))
        for before, last in pairs
        for one, other, together in [sure(before, last, f"{before}\n{last}")]
    )
    assert gain > 0
    opened = Opened(changed(bundle, tmp_path / "strict", threshold=(single + both) / 2))
    turns = [opened.codec.turn([*turns]) for turns in (pair[1:], pair, (ASKED, STRANGE), ("parcel " * 40, pair[1]))]
    alone, joined, strange, long = opened.answer(*turns)
    assert alone.answer.abstained and alone.asked.question == pair[1]
    assert joined.answer.answer == ENTRY and joined.asked.question == "\n".join(pair)
    assert strange.answer.abstained and strange.asked.question == STRANGE, "the turn before is not answered again"
    assert long.asked.question == pair[1], "what the encoder cannot read whole is not joined"


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("nothing", {}, "messages", "`messages` is missing"),
    ("no messages", {"messages": []}, "messages", "`messages` is empty"),
    ("an empty question", {"messages": user(" ")}, "messages[0].content", "is empty"),
    ("a long question", {"messages": user("x" * 1001)}, "messages[0].content", "1,001 characters"),
    ("the assistant's turn", {"messages": user("x", "y")[:2]}, "messages[1]", "no message of the user's"),
    ("several answers", {"n": 2}, "n", "`n` would change the answer"),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "does not support"),
    ("a tool's choice", {"tool_choice": "required"}, "tool_choice", "does not support"),
    ("JSON", {"response_format": {"type": "json_object"}}, "response_format", "does not support"),
    ("logprobs", {"logprobs": True}, "logprobs", "does not support"),
    ("biases", {"logit_bias": {"5": 1}}, "logit_bias", "does not support"),
    ("stops", {"stop": ["x"]}, "stop", "does not support"),
    ("penalties", {"frequency_penalty": 1}, "frequency_penalty", "does not support"),
    ("a wrong name", {"mesages": []}, "mesages", "did you mean `messages`?"),
    ("no tokens", {"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ("usage of no stream", {"stream_options": {}}, "stream_options", "needs `stream: true`"),
]


@pytest.mark.parametrize(("name", "body", "param", "words"), BAD, ids=[case[0] for case in BAD])
def test_what_cannot_be_done_is_refused_by_name(port: int, name: str, body: dict, param: str, words: str) -> None:
    sent = body if name == "nothing" else {"messages": user(ASKED), **body}
    status, said = Caller(port)("POST", CHAT, sent)
    assert status == 400, said
    assert said["error"]["param"] == param
    assert words in said["error"]["message"]


def test_what_clients_send_by_habit_is_taken(client: OpenAI) -> None:
    habits: Any = {
        "temperature": 0.7, "top_p": 1, "seed": 1, "n": 1, "logprobs": False, "tool_choice": "none", "stop": [],
        "response_format": {"type": "text"}, "frequency_penalty": 0, "user": "kim",
    }  # fmt: skip
    said = client.chat.completions.create(model="any", messages=user(ASKED), **habits)
    assert said.choices[0].message.content == f"{ENTRY}\n\nSource: delivery"
    with pytest.raises(openai.BadRequestError, match="`n` would change the answer"):
        client.chat.completions.create(model="any", messages=user(ASKED), n=2)


def test_the_description_of_the_chat_is_true(port: int) -> None:
    told = Interface(port)
    assert {CHAT, "/v1/predict", "/v1/embeddings", "/v1/models"} <= told.addresses
    told.agrees(CHAT, told.example(CHAT), good=True)
    told.agrees(CHAT, {"messages": user(ASKED), "model": "m", "max_tokens": 5, "temperature": 0}, good=True)
    for name in ("nothing", "several answers", "tools", "JSON", "no tokens", "a wrong name"):
        body = next(body for case, body, _, _ in BAD if case == name)
        told.agrees(CHAT, body if name == "nothing" else {"messages": user(ASKED), **body}, good=False)


def test_answers_are_logged_and_corrected_as_those_of_predict(client: OpenAI, port: int, traffic: Path) -> None:
    said = client.chat.completions.create(model="any", messages=user(STRANGE))
    told = Caller(port)("POST", "/v1/feedback", {"id": said.id, "correction": "By voucher."})
    assert told[0] == 200
    standin.wait_until(lambda: [one for one in TrafficReader(traffic).judged() if one.id == said.id], 10)
    [judged] = [one for one in TrafficReader(traffic).judged() if one.id == said.id]
    assert (judged.request, judged.abstained) == ({"question": STRANGE, "top": 3, "phrase": True}, True)
    row = Answering().harvested(AnsweringSection(), judged)
    assert row is not None
    assert (row["text"], row["answer"]) == (STRANGE, "By voucher.")


def test_how_answers_are_said_decides_no_training() -> None:
    plain = AnsweringSection()
    other = AnsweringSection.model_validate(
        {"chat": {"unknown": "?"}, "phrase": {"url": "http://127.0.0.1:1/v1", "model": "m"}}
    )
    assert Answering().preparing(other) == Answering().preparing(plain)
    assert Answering().learning(other) == Answering().learning(plain)
    assert Answering().learning(AnsweringSection(lexical=0.5)) != Answering().learning(plain)


def test_the_shipped_config_is_valid_and_calls_nobody() -> None:
    project = open_project(ROOT / "configs" / "assistant.yaml")
    section = project.sections["task"]
    assert isinstance(section, AnsweringSection)
    assert section.phrase is None
    assert section.chat.unknown.startswith("I don't know")


@pytest.mark.prove
def test_the_shipped_config_turns_the_loop_and_chats(tmp_path: Path) -> None:
    for folder in ("configs", "data"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    llmops("run", tmp_path / "configs" / "assistant.yaml")
    with standin.started([*LLMOPS, "serve", str(tmp_path / "configs" / "assistant.yaml"), "--port", "0"]) as (_, port):
        call = Caller(port)

        def words(*turns: str) -> str:
            return str(call("POST", CHAT, {"messages": user(*turns)})[1]["choices"][0]["message"]["content"])

        assert words("is postage free if i spend more").endswith("Source: delivery/costs")
        assert words("what is the capital of france").startswith("I don't know")
        assert words("how much is delivery", "and express?").endswith("Source: delivery/express")
        assert words("how much is delivery", "tell me a joke").startswith("I don't know")
