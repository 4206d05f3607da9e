"""A chat that answers from the team's entries: found, phrased by a generator, checked, sources named, or unknown."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from llmops.core.protocols import Conversing
from llmops.project import open_project
from llmops.records.trafficreader import TrafficReader
from llmops.stages.need.stage import NeedStage
from llmops.tasks.answering import Answering
from llmops.tasks.answering.chatting import followed
from llmops.tasks.answering.config import AnsweringSection
from llmops.tasks.answering.faithful import check, facts
from llmops.tasks.answering.messages import AnsweringRequest, AnsweringResponse
from llmops.tasks.withheld import Withheld
from tests import standin, tiny_answering
from tests.interface import Interface
from tests.rooms import FakeRoom
from tests.standin import Caller
from tests.standin_writer import SAYING, Parrot, served
from tests.test_answering import Opened, PlainServer, World
from tests.test_loop import LLMOPS, llmops

ROOT = Path(__file__).parent.parent
CHAT = "/v1/chat/completions"
ASKED = "where is my parcel, has the courier shipped it in a van"
ENTRY = tiny_answering.entry("delivery")
STRANGE = "money screen voucher shoe"
"""Words of many topics: no entry fits."""
UNKNOWN = "No idea. Ask our team."
Say = Callable[[str], str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("assistant"))


@pytest.fixture(scope="module")
def bundle(world: World) -> Path:
    opened = world.bundle(world.folder / "bundle", slope=10.0, intercept=-5.4, threshold=0.5)
    return changed(opened.folder, world.folder / "chatting", chat={"unknown": UNKNOWN})


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


def changed(bundle: Path, folder: Path, **settings: Any) -> Path:
    """A copy of a bundle with other settings."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["settings"] |= settings
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def user(*turns: str) -> list[Any]:
    """The messages of a chat in which every turn of the user's was answered somehow."""
    messages = [
        {"role": role, "content": text} for turn in turns for role, text in (("user", turn), ("assistant", "-"))
    ]
    return messages[:-1]


@contextmanager
def generator(say: Say) -> Iterator[str]:
    """An OpenAI-compatible address that makes of an entry what `say` does."""

    class Generator(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            entry = body["messages"][-1]["content"].removeprefix("Entry:\n").partition("\n\nQuestion:\n")[0]
            data = json.dumps({"choices": [{"message": {"content": say(entry)}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Generator)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def true(entry: str) -> str:
    return f"Good to know: {entry}"


def false(entry: str) -> str:
    return f"{entry} It takes 14 days."


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


def ask(bundle: Path) -> tuple[Any, Any, str]:
    """A chat's message, predict's answer to the same, and the metrics of a server."""
    with standin.serve_bundle(bundle) as (_, port):
        call = Caller(port)
        status, chat = call("POST", CHAT, {"messages": user(ASKED)})
        assert status == 200, chat
        assert call("POST", CHAT, {"messages": user(STRANGE)})[1]["choices"][0]["message"]["content"] == UNKNOWN
        plain = call("POST", "/v1/predict", {"question": ASKED})[1]
        return chat["choices"][0]["message"], plain, call.raw("GET", "/metrics")[2].decode()


def phrasing(bundle: Path, folder: Path, url: str, **settings: Any) -> Path:
    return changed(bundle, folder, phrase={"url": url, "model": "m", **settings})


def test_a_generator_phrases_the_answer(bundle: Path, tmp_path: Path) -> None:
    with generator(true) as url:
        message, plain, metrics = ask(phrasing(bundle, tmp_path / "bundle", url))
    assert message["content"] == f"Good to know: {ENTRY}\n\nSource: delivery"
    assert (plain["phrased"], plain["answer"]) == (true(ENTRY), ENTRY)
    assert plain["checked"]["faithful"] and plain["checked"]["why"] is None
    assert 'llmops_wordings_total{result="given"} 2.0' in metrics


def test_a_false_number_is_caught(bundle: Path, tmp_path: Path) -> None:
    with generator(false) as url:
        message, plain, metrics = ask(phrasing(bundle, tmp_path / "bundle", url))
        loose, unguarded, _ = ask(phrasing(bundle, tmp_path / "loose", url, guard=False))
    assert message["content"] == f"{ENTRY}\n\nSource: delivery", "the entry's own words"
    assert plain["phrased"] is None
    assert plain["checked"]["words"] == false(ENTRY)
    assert plain["checked"]["why"] == "it says 14, and neither the entry nor the question does"
    assert 'llmops_wordings_total{result="refused"} 2.0' in metrics
    assert loose["content"].startswith(false(ENTRY)) and not unguarded["checked"]["faithful"]


def test_without_its_generator_the_entry_is_the_answer(bundle: Path, tmp_path: Path) -> None:
    with generator(true) as url:
        pass  # it has stopped
    message, plain, metrics = ask(phrasing(bundle, tmp_path / "bundle", url))
    assert message["content"] == f"{ENTRY}\n\nSource: delivery"
    assert plain["phrased"] is plain["checked"] is None
    assert 'llmops_wordings_total{result="missing"} 2.0' in metrics


def test_a_chat_server_of_ours_is_the_generator(bundle: Path, tmp_path: Path) -> None:
    with served(tmp_path, Parrot(slots=2, context=4000)) as chat:
        folder = phrasing(bundle, tmp_path / "bundle", f"http://127.0.0.1:{chat.port}/v1", max_tokens=60)
        message, plain, _ = ask(folder)
    assert SAYING.startswith(plain["checked"]["words"][:20]) or plain["checked"]["words"] in SAYING, plain["checked"]
    assert not plain["checked"]["faithful"], "a parrot's words are not the entry's"
    assert message["content"].startswith(ENTRY)


HELP = (
    "Standard delivery costs 4.90 euros. From an order of 1,000 euros it is free and takes two to three working days. "
    "We deliver on Mondays from 3 October. Write to help@shop.example or read https://shop.example/terms."
)
WORDINGS: dict[str, tuple[str, str | None]] = {
    "its words": (HELP, None),
    "friendlier": ("Delivery costs you 4,90 euros; orders from 1.000 euros are delivered free.", None),
    "digits for words": ("Standard delivery takes 2-3 working days.", None),
    "German numerals": ("Delivery: zwei euros? No, delivery is free from 1000 euros.", None),
    "a number of the question": ("An order of 75 euros costs 4.90 euros delivery.", None),
    "another amount": ("Standard delivery costs 4.95 euros.", "it says 4.95,"),
    "another numeral": ("Standard delivery takes four working days.", "it says 4,"),
    "another day": ("We deliver on Tuesdays.", "it says tuesday,"),
    "another month": ("We deliver from 3 November.", "it says november,"),
    "another date": ("We deliver from 3.10.2027.", "it says 10, 2027,"),
    "another address": ("Write to me@shop.example for delivery.", "it says me@shop.example,"),
    "another page": ("Read https://shop.example/prices for delivery costs.", "it says https://shop.example/prices,"),
    "other words": ("Our friendly drivers gladly bring everything upstairs, whenever that suits.", "less than 0.60"),
    "nothing": ("Yes.", "no word that could be checked"),
}


@pytest.mark.parametrize("name", WORDINGS)
def test_a_wording_says_what_the_entry_or_the_question_says(name: str) -> None:
    wording, why = WORDINGS[name]
    found = check(wording, HELP, "what does delivery cost for an order of 75 euros", 0.6)
    assert found.faithful == (why is None), found
    assert why is None or why in str(found.why)


def test_k_precision_is_a_share_of_the_longer_words() -> None:
    found = check("Parcels arrive by van in the afternoon", "The parcel arrives in the morning.", "when?", 0.6)
    assert found.precision == pytest.approx(2 / 3, abs=1e-6)  # parcels and arrive, not afternoon
    assert check("包裹今天到", "包裹明天到", "?", 0.5).precision == pytest.approx(2 / 4), "pairs of characters"
    assert facts("1,000.50 and 1.000,5, then 007 and 24.12.2026") == {"1000.5", "7", "24", "12", "2026"}


def prove(world: World, bundle: Path, url: str | None, tmp_path: Path) -> Any:
    section = world.section.model_copy(update={})
    folder = bundle
    if url is not None:
        told: Mapping[str, Any] = {"url": url, "model": "m"}
        section = AnsweringSection.model_validate({**world.section.plain(), "phrase": told})
        folder = changed(bundle, tmp_path / "bundle", phrase=told)
    server = PlainServer(Opened(folder))
    return Answering().prove(section, world.dataset, folder, server, world.learner, FakeRoom(tmp_path / "room"))


def test_a_proof_measures_faithfulness(world: World, bundle: Path, tmp_path: Path) -> None:
    turns = itertools.count()
    with generator(lambda entry: true(entry) if next(turns) % 2 else "It takes 14 days.") as url:
        proof = prove(world, bundle, url, tmp_path)
    numbers = proof.numbers
    answered = sum(not line["abstained"] for line in proof.lines)
    assert (numbers["wordings"], numbers["wordings_missing"], next(turns)) == (answered, 0, answered)
    assert numbers["unfaithful_share"] == pytest.approx(-(-answered // 2) / answered)
    assert numbers["unfaithful_share_low"] < numbers["unfaithful_share"] < numbers["unfaithful_share_high"]
    assert 0.3 < numbers["faithfulness"] < 0.6
    [table] = [table for table in proof.tables if "fail the check" in table.title]
    assert table.rows[0] == ["It takes 14 days.", "it says 14, and neither the entry nor the question does"]


def test_a_proof_says_when_no_generator_answers(world: World, bundle: Path, tmp_path: Path) -> None:
    with generator(true) as url:
        pass  # it has stopped
    proof = prove(world, bundle, url, tmp_path)
    assert (proof.numbers["faithfulness"], proof.numbers["wordings"]) == (None, 0)
    assert any(f"no wording came from the generator at {url}" in line for line in proof.warnings)
    assert "faithfulness" not in prove(world, bundle, None, tmp_path).numbers


def test_a_gate_on_faithfulness_needs_a_generator(tmp_path: Path) -> None:
    config = tiny_answering.project(tmp_path)
    config.write_text(config.read_text().replace("accept: {", "accept: {faithfulness: {at_least: 0.5}, "))
    project = open_project(config)
    [mistake] = NeedStage().check(project.sections, project.task, project.places)
    assert mistake.where == "need.accept.faithfulness"


def test_the_loop_judges_the_generator(tmp_path: Path) -> None:
    config = tiny_answering.project(tmp_path)
    config.write_text(config.read_text().replace("accept: {", "accept: {faithfulness: {at_least: 0.7}, "))
    with generator(true) as url:
        llmops("run", config, "--set", f"task.phrase={{url: '{url}', model: m}}")
    assert "faithfulness" in next((tmp_path / "runs").rglob("deploy/report.md")).read_text()
    with generator(lambda entry: "Gladly, whatever pleases everybody there!") as url:
        said = llmops("run", config, "--set", f"task.phrase={{url: '{url}', model: m}}", code=6)
    assert "faithfulness is" in said
    trained = {path.stat().st_ino for path in (tmp_path / "runs" / "tiny_answering").glob("2*/train/done.json")}
    assert len(trained) == 1, "another generator trains nothing again"


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
