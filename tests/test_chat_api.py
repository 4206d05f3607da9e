"""serving: chats and completions through OpenAI's own client, and everything that server and client may do wrong."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import OpenAI

from llmops.records.trafficreader import TrafficReader
from tests import standin
from tests.standin import Caller
from tests.standin_writer import BEGIN, END, Parrot, ParrotCodec, Served, alone, opened, served
from tests.storm import idle, storm

CODEC = ParrotCodec()
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("chat"), Parrot(slots=3), queue=14) as server:
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[OpenAI]:
    with connected(server) as client:
        yield client


@pytest.fixture
def call(server: Served) -> Caller:
    return Caller(server.port)


def connected(server: Served, **more: Any) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0, timeout=30, **more)


def expected(messages: list[dict[str, str]], count: int = 60) -> str:
    return CODEC.text(alone(CODEC.chat(messages), count))


def figures(server: Served) -> dict[str, float]:
    lines = Caller(server.port).raw("GET", "/metrics")[2].decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def quiet(server: Served) -> bool:
    scheduler = server.service.desk.scheduler
    return not scheduler.active() and not scheduler.waiting() and not server.stepper.held


def logged(server: Served, key: str) -> dict[str, Any]:
    def rows() -> list[tuple]:
        with sqlite3.connect(server.traffic) as log:
            found = log.execute(
                "SELECT request, response, version, latency_ms, label FROM requests WHERE id = ?", (key,)
            ).fetchall()
        log.close()
        return found

    standin.wait_until(rows, 5)
    [(request, response, version, latency_ms, label)] = rows()
    assert (version, label) == (0, None)
    assert latency_ms > 0
    return {"request": json.loads(request), "response": json.loads(response)}


# --- answers


def test_a_chat(client: OpenAI) -> None:
    said = client.chat.completions.create(model="whatever", messages=HELLO)
    prompt = CODEC.chat(HELLO)
    assert said.choices[0].message.content == expected(HELLO)
    assert said.choices[0].message.role == "assistant"
    assert said.choices[0].finish_reason == "length"
    assert (said.object, said.model, said.choices[0].index) == ("chat.completion", "whatever", 0)
    assert said.id.startswith("chatcmpl-")
    assert said.system_fingerprint == "version-0"
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (len(prompt), 60)
    assert said.usage.total_tokens == len(prompt) + 60


def test_a_chat_that_the_model_ends(client: OpenAI) -> None:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "where? the parcel is"}]
    said = client.chat.completions.create(model="m", messages=messages, max_tokens=150)
    tokens = alone(CODEC.chat(messages), 150)
    assert tokens[-1] == END
    assert (said.choices[0].finish_reason, said.choices[0].message.content) == ("stop", CODEC.text(tokens))
    assert said.usage is not None
    assert said.usage.completion_tokens == len(tokens)


def test_a_streamed_chat_is_the_same_chat(client: OpenAI) -> None:
    events = list(
        client.chat.completions.create(
            model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}, max_completion_tokens=30
        )
    )
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(event.choices[0].delta.content or "" for event in events[:-1]) == expected(HELLO, 30)
    assert [event.choices[0].finish_reason for event in events[:-1] if event.choices[0].finish_reason] == ["length"]
    assert events[-2].choices[0].finish_reason == "length"
    assert not events[-1].choices
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 30
    assert all(event.usage is None for event in events[:-1])
    assert len({event.id for event in events}) == 1


def test_the_wire_format_of_a_stream(call: Caller) -> None:
    body = json.dumps({"messages": HELLO, "stream": True, "max_tokens": 3}).encode()
    status, headers, raw = call.raw("POST", "/v1/chat/completions", body)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert "default-src 'none'" in headers["content-security-policy"]
    blocks = raw.decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    assert all(block.startswith("data: {") for block in blocks[:-2])
    assert "usage" not in json.loads(blocks[0].removeprefix("data: "))


def test_a_completion(client: OpenAI) -> None:
    said = client.completions.create(model="m", prompt="hello", max_tokens=7)
    assert (said.choices[0].text, said.choices[0].finish_reason) == (" there,", "length")
    assert (said.object, said.usage and said.usage.prompt_tokens) == ("text_completion", 6)
    assert said.id.startswith("cmpl-")
    usual = client.completions.create(model="m", prompt="hello")
    assert usual.usage is not None
    assert usual.usage.completion_tokens == 16
    tokens = client.completions.create(model="m", prompt=CODEC.prompt("hello"), max_tokens=7)
    assert tokens.choices[0].text == " there,"
    listed = client.completions.create(model="m", prompt=["hello"], max_tokens=7)
    assert listed.choices[0].text == " there,"
    assert (
        client.completions.create(model="m", prompt="hello", max_tokens=7, echo=True).choices[0].text == "hello there,"
    )


def test_a_streamed_completion(client: OpenAI) -> None:
    stream = client.completions.create(model="m", prompt="the par", max_tokens=50, stream=True, echo=True)
    events = list(stream)
    assert "".join(event.choices[0].text for event in events) == "the parcel is on its way to you.\n"
    assert [event.choices[0].finish_reason for event in events if event.choices[0].finish_reason] == ["stop"]


def test_stop_strings(client: OpenAI) -> None:
    said = client.completions.create(model="m", prompt="hello", max_tokens=60, stop=["today", "are you"])
    assert (said.choices[0].text, said.choices[0].finish_reason) == (" there, how ", "stop")
    stream = client.completions.create(model="m", prompt="hello", max_tokens=60, stop="are you", stream=True)
    assert "".join(event.choices[0].text for event in stream) == " there, how "


def test_seeds_repeat_and_temperatures_vary(client: OpenAI) -> None:
    def ask(**more: Any) -> str:
        said = client.completions.create(model="m", prompt="hello", max_tokens=40, temperature=2, **more)
        return said.choices[0].text

    assert ask(seed=5) == ask(seed=5)
    assert ask(seed=-5) == ask(seed=-5)
    assert len({ask(seed=seed) for seed in range(24)}) > 1
    ask()
    assert ask(top_p=0, seed=1) == ask(top_p=0, seed=2) == CODEC.text(alone(CODEC.prompt("hello"), 40))


def test_an_answer_ends_where_the_context_does(client: OpenAI) -> None:
    said = client.completions.create(model="m", prompt="hello" * 38, max_tokens=5000, extra_body={"ignore_eos": True})
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.total_tokens) == (191, 200)
    assert said.choices[0].finish_reason == "length"


def test_text_in_parts_and_developers_are_understood(client: OpenAI) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    said = client.chat.completions.create(
        model="m",
        messages=[{"role": "developer", "content": "be kind"}, {"role": "user", "content": parts}],
        user="kim", frequency_penalty=0, presence_penalty=0, n=1, response_format={"type": "text"}, logit_bias={},
        tools=[], metadata={"a": "b"}, store=False,
    )  # fmt: skip
    told = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hel\nlo"}]
    assert said.choices[0].message.content == expected(told)


def test_the_list_of_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["parrot"]
    assert client.models.retrieve("parrot").owned_by == "llmops"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-99")
    assert caught.value.code == "model_not_found"


# --- log probabilities


def test_log_probabilities_of_a_chat(client: OpenAI) -> None:
    said = client.chat.completions.create(model="m", messages=HELLO, logprobs=True, top_logprobs=3, max_tokens=10)
    content = said.choices[0].logprobs and said.choices[0].logprobs.content
    assert content is not None
    assert "".join(token.token for token in content) == said.choices[0].message.content
    for token in content:
        assert token.bytes == list(token.token.encode())
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token
        assert token.logprob == token.top_logprobs[0].logprob <= 0
    events = client.chat.completions.create(model="m", messages=HELLO, logprobs=True, max_tokens=10, stream=True)
    streamed = [
        token for event in events if event.choices[0].logprobs for token in event.choices[0].logprobs.content or []
    ]
    assert [token.logprob for token in streamed] == [token.logprob for token in content]


def test_a_prompt_is_scored_token_by_token(client: OpenAI, server: Served) -> None:
    """What deploy compares with the trained model."""
    prompt = CODEC.prompt("hello there, hxw")
    said = client.completions.create(model="m", prompt=prompt, max_tokens=0, echo=True, logprobs=2)
    told = said.choices[0].logprobs.model_dump()
    assert said.choices[0].text == "hello there, hxw"
    assert (said.choices[0].finish_reason, said.usage and said.usage.completion_tokens) == ("length", 0)
    assert told["token_ids"] == prompt
    assert told["tokens"][:3] == ["<begin>", "h", "e"]
    assert told["token_logprobs"][0] is told["top_logprobs"][0] is told["top_token_ids"][0] is None
    assert told["text_offset"] == [0, *range(len("hello there, hxw"))]
    for place in range(1, len(prompt)):
        logits = server.stepper.logits(prompt[:place])
        assert told["top_token_ids"][place][0] == logits.argmax()
        assert len(told["top_token_ids"][place]) == 2
        assert told["top_logprobs"][place][CODEC.piece(int(logits.argmax()))] == max(
            told["top_logprobs"][place].values()
        )
    assert quiet(server)


def test_echo_with_probabilities_goes_on_writing(client: OpenAI) -> None:
    said = client.completions.create(model="m", prompt="hello", max_tokens=3, echo=True, logprobs=0)
    told = said.choices[0].logprobs.model_dump()
    assert said.choices[0].text == "hello th"
    assert told["tokens"] == ["<begin>", *"hello th"]
    assert told["text_offset"] == [0, *range(8)]
    events = client.completions.create(model="m", prompt="hello", max_tokens=3, echo=True, logprobs=0, stream=True)
    parts = [event.choices[0].logprobs.model_dump() for event in events if event.choices[0].logprobs]
    assert [offset for part in parts for offset in part["text_offset"]] == told["text_offset"]
    assert [one for part in parts for one in part["token_logprobs"]] == told["token_logprobs"]


# --- refusals

CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"
BAD = [
    ("no messages", CHAT, {}, "missing_required_parameter", "messages"),
    ("empty messages", CHAT, {"messages": []}, "invalid_value", "messages"),
    ("messages are text", CHAT, {"messages": "hello"}, "invalid_value", "messages"),
    ("a message is text", CHAT, {"messages": ["hello"]}, "invalid_value", "messages[0]"),
    ("a role of nobody", CHAT, {"messages": [{"role": "bot", "content": "x"}]}, "invalid_value", "messages[0].role"),
    ("no content", CHAT, {"messages": [{"role": "user"}]}, "invalid_value", "messages[0].content"),
    ("an image", CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "invalid_value", "messages[0].content[0]"),
    ("what the template refuses", CHAT, {"messages": [*HELLO, {"role": "system", "content": "x"}]}, "invalid_value",
     "messages"),
    ("no answer", CHAT, {"messages": HELLO, "n": 0}, "invalid_value", "n"),
    ("17 answers", CHAT, {"messages": HELLO, "n": 17}, "invalid_value", "n"),
    ("more answers than may wait", CHAT, {"messages": HELLO, "n": 15}, "invalid_value", "n"),
    ("a bias of 101", CHAT, {"messages": HELLO, "logit_bias": {"5": 101}}, "invalid_value", "logit_bias.5"),
    ("a bias of a word", CHAT, {"messages": HELLO, "logit_bias": {"hello": 1}}, "invalid_value", "logit_bias"),
    ("a bias of a token of nobody", CHAT, {"messages": HELLO, "logit_bias": {"5000": 1}}, "invalid_value",
     "logit_bias"),
    ("a bias in words", CHAT, {"messages": HELLO, "logit_bias": {"5": "much"}}, "invalid_value", "logit_bias.5"),
    ("a penalty", CHAT, {"messages": HELLO, "presence_penalty": 0.5}, "unsupported_parameter", "presence_penalty"),
    ("a typing error", CHAT, {"messages": HELLO, "temprature": 0}, "unknown_parameter", "temprature"),
    ("temperature 3", CHAT, {"messages": HELLO, "temperature": 3}, "invalid_value", "temperature"),
    ("temperature in words", CHAT, {"messages": HELLO, "temperature": "0"}, "invalid_value", "temperature"),
    ("top_p 2", CHAT, {"messages": HELLO, "top_p": 2}, "invalid_value", "top_p"),
    ("no tokens", CHAT, {"messages": HELLO, "max_tokens": 0}, "invalid_value", "max_tokens"),
    ("half a token", CHAT, {"messages": HELLO, "max_tokens": 1.5}, "invalid_value", "max_tokens"),
    ("five stops", CHAT, {"messages": HELLO, "stop": list("abcde")}, "invalid_value", "stop"),
    ("an empty stop", CHAT, {"messages": HELLO, "stop": ""}, "invalid_value", "stop"),
    ("a stop that is a number", CHAT, {"messages": HELLO, "stop": [5]}, "invalid_value", "stop"),
    ("a seed that is none", CHAT, {"messages": HELLO, "seed": "x"}, "invalid_value", "seed"),
    ("top_logprobs alone", CHAT, {"messages": HELLO, "top_logprobs": 2}, "invalid_value", "top_logprobs"),
    ("too many top_logprobs", CHAT, {"messages": HELLO, "logprobs": True, "top_logprobs": 21}, "invalid_value",
     "top_logprobs"),
    ("stream_options alone", CHAT, {"messages": HELLO, "stream_options": {"include_usage": True}}, "invalid_value",
     "stream_options"),
    ("too long", CHAT, {"messages": [{"role": "user", "content": "x" * 300}]}, "context_length_exceeded", "messages"),
    ("no prompt", COMPLETE, {}, "missing_required_parameter", "prompt"),
    ("two prompts", COMPLETE, {"prompt": ["a", "b"]}, "invalid_value", "prompt"),
    ("prompt 5", COMPLETE, {"prompt": 5}, "invalid_value", "prompt"),
    ("no tokens in the prompt", COMPLETE, {"prompt": []}, "invalid_value", "prompt"),
    ("a token of nobody", COMPLETE, {"prompt": [1, 10**6]}, "invalid_value", "prompt"),
    ("a token below 0", COMPLETE, {"prompt": [-1]}, "invalid_value", "prompt"),
    ("a suffix", COMPLETE, {"prompt": "x", "suffix": "y"}, "unsupported_parameter", "suffix"),
    ("best_of", COMPLETE, {"prompt": "x", "best_of": 2}, "unsupported_parameter", "best_of"),
    ("logprobs true", COMPLETE, {"prompt": "x", "logprobs": True}, "invalid_value", "logprobs"),
    ("a full prompt", COMPLETE, {"prompt": "x" * 199}, "context_length_exceeded", "prompt"),
    ("too long to score", COMPLETE, {"prompt": "x" * 201, "max_tokens": 0}, "context_length_exceeded", "prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "body", "code", "param"), BAD, ids=[case[0] for case in BAD])
def test_refuses_with_400(call: Caller, name: str, path: str, body: Any, code: str, param: str) -> None:
    status, said = call("POST", path, body)
    error = said["error"]
    assert (status, error["code"], error["param"]) == (400, code, param)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in error["message"]


@pytest.mark.parametrize(("body", "kind", "status", "code"), [
    (b"{", "application/json", 400, "bad_json"), (b"[1]", "application/json", 400, "not_an_object"),
    (b"messages=x", "application/x-www-form-urlencoded", 415, "not_json"),
    (b'{"messages": "' + b"x" * 1_100_000 + b'"}', "application/json", 413, "body_too_large"),
    (b'{"messages": [{"role": "user", "content": NaN}]}', "application/json", 400, "invalid_value"),
    (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "application/json", 400, "invalid_value"),
    (b'{"\\ud800": 1}', "application/json", 400, "unknown_parameter"),
])  # fmt: skip
def test_refuses_what_is_no_body(call: Caller, body: bytes, kind: str, status: int, code: str) -> None:
    got, _, said = call.raw("POST", CHAT, body, kind)
    assert (got, json.loads(said)["error"]["code"]) == (status, code)


def test_half_a_surrogate_pair_is_answered(call: Caller) -> None:
    body = b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x\\ud800"}], "stop": ["\\ud800"]}'
    assert call.raw("POST", CHAT, body)[0] == 200


def test_the_client_raises_what_belongs_to_a_refusal(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 400}])
    assert caught.value.code == "context_length_exceeded"
    assert "200 tokens" in str(caught.value)
    assert "419 of them" in str(caught.value)
    with pytest.raises(openai.BadRequestError, match="`presence_penalty` would change the answer") as caught:
        client.chat.completions.create(model="m", messages=HELLO, presence_penalty=1)
    assert (caught.value.param, caught.value.type) == ("presence_penalty", "invalid_request_error")


def test_wrong_methods_and_addresses(call: Caller) -> None:
    status, said = call("GET", CHAT)
    assert (status, said["error"]["type"]) == (405, "invalid_request_error")
    assert call("POST", "/v1/predict", {"text": "x"})[0] == 404
    assert call("GET", "/nowhere")[1]["error"]["do"]


def test_a_model_without_chat_template_says_so(tmp_path: Path) -> None:
    codec = ParrotCodec()
    codec.chats = False
    with served(tmp_path, Parrot(), codec) as server, connected(server) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.code == "no_chat_template"
        assert client.completions.create(model="m", prompt="hello", max_tokens=6).choices[0].text == " there"
        assert Caller(server.port)("GET", "/v1/model")[1]["chats"] is False


def test_a_mistake_of_the_model_is_a_500_and_the_next_is_answered(tmp_path: Path) -> None:
    stepper = Parrot()
    with served(tmp_path, stepper) as server, connected(server) as client:
        stepper.fails = True
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.type == "server_error"
        with pytest.raises(openai.APIError, match="the server made a mistake"):
            list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        stepper.fails = False
        assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == expected(HELLO)
        assert quiet(server)


# --- many at once, hang-ups, a full queue


def test_many_streams_at_once_each_as_if_alone(server: Served) -> None:
    chats = [
        [{"role": "user", "content": f"{words} {place}"}] for place in range(4) for words in ("hello", "how", "xyz")
    ]

    def ask(messages: list[dict[str, str]]) -> str:
        with connected(server) as client:
            events = client.chat.completions.create(model="m", messages=messages, stream=True)
            return "".join(event.choices[0].delta.content or "" for event in events)

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, chats)) == [expected(messages) for messages in chats]
    assert max(server.stepper.batches) == 3
    assert quiet(server)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_slot(tmp_path: Path, stream: bool) -> None:
    with served(tmp_path, Parrot(slots=1, context=20_000, pause_s=0.002)) as server:
        caller = Caller(server.port)
        body = {"messages": HELLO, "stream": stream, "max_tokens": 15_000, "ignore_eos": True}
        caller.connection.request("POST", CHAT, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if stream:
            caller.connection.getresponse().read(200)
        standin.wait_until(lambda: server.service.desk.scheduler.active() == 1, 10)
        assert figures(server)["llmops_slots_active"] == 1
        caller.connection.sock.close() if not stream else caller.connection.close()
        standin.wait_until(lambda: quiet(server), 10)
        assert figures(server)['llmops_finished_total{reason="cancelled"}'] == 1
        with connected(server) as client:
            assert client.completions.create(model="m", prompt="hello", max_tokens=6).choices[0].text == " there"


def test_a_full_queue_is_a_429_that_clients_wait_for(tmp_path: Path) -> None:
    stepper = Parrot(slots=1)
    with served(tmp_path, stepper, queue=1) as server, connected(server) as client, ThreadPoolExecutor(2) as pool:
        stepper.gate.clear()
        asking = [pool.submit(client.chat.completions.create, model="m", messages=HELLO)]
        standin.wait_until(lambda: figures(server)["llmops_slots_active"] == 1, 10)  # or the next finds no room
        asking.append(pool.submit(client.chat.completions.create, model="m", messages=HELLO))
        standin.wait_until(lambda: figures(server)["llmops_queue_depth"] == 1, 10)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.code == "queue_full"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        patient = client.with_options(max_retries=3)
        threading.Timer(0.2, stepper.gate.set).start()
        assert patient.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == expected(HELLO)
        assert [one.result().choices[0].finish_reason for one in asking] == ["length", "length"]


def test_stopping_finishes_what_runs(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        with served(tmp_path, Parrot(slots=1, pause_s=0.002)) as server:
            client = connected(server)
            asking = [pool.submit(client.chat.completions.create, model="m", messages=HELLO) for _ in range(3)]
            standin.wait_until(lambda: server.service.waiting() == 2, 10)
        assert [one.result().choices[0].message.content for one in asking] == [expected(HELLO)] * 3
        client.close()


def test_a_new_champion_takes_over_without_cutting_an_answer(tmp_path: Path) -> None:
    old, new = Parrot(slots=1, pause_s=0.002), Parrot(slots=1, saying="hello again, this is another model.\n")
    with served(tmp_path, old) as server, connected(server) as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        begun = [next(stream) for _ in range(4)]

        def swap() -> None:
            server.service.holder.model = opened(new, version=2)
            server.service.swapped(2, True)

        server.service.desk.scheduler._loop.call_soon_threadsafe(swap)
        standin.wait_until(lambda: Caller(server.port)("GET", "/v1/model")[1]["version"] == 2, 10)
        said = client.completions.create(model="m", prompt="hello", max_tokens=8)
        assert (said.choices[0].text, said.system_fingerprint) == (" again, ", "version-2")
        events = [*begun, *stream]
        assert "".join(event.choices[0].delta.content or "" for event in events) == expected(HELLO)
        assert events[-1].system_fingerprint == "version-0"
        standin.wait_until(lambda: not server.service._leaving, 10)
        assert not old.held


# --- what is kept


def test_the_log_holds_chats_redacted(client: OpenAI, server: Served) -> None:
    messages = [{"role": "system", "content": "hi"}, {"role": "user", "content": "hello, i am kim@example.com"}]
    said = client.chat.completions.create(model="m", messages=messages, max_tokens=9)
    row = logged(server, said.id)
    assert row["request"] == {"messages": [messages[0], {"role": "user", "content": "hello, i am <email>"}]}
    assert row["response"]["answer"] == said.choices[0].message.content
    assert (row["response"]["completion_tokens"], row["response"]["finish_reason"]) == (9, "length")
    assert row["response"]["first_token_ms"] >= 0
    done = client.completions.create(model="m", prompt="write to kim@example.com", echo=True, max_tokens=4)
    row = logged(server, done.id)
    assert row["request"] == {"prompt": "write to <email>"}
    assert "kim" not in row["response"]["answer"]


def test_feedback_on_a_chat(client: OpenAI, call: Caller, server: Served) -> None:
    stream = client.chat.completions.create(model="m", messages=HELLO, stream=True, max_tokens=5)
    key = list(stream)[-1].id
    right = "the right answer, to kim@example.com: " + "long " * 100
    assert call("POST", "/v1/feedback", {"id": key, "rating": -1, "correction": right}) == (
        200, {"id": key, "correction": right.strip()}
    )  # fmt: skip
    assert server.service.log is not None
    server.service.log.flush()
    with TrafficReader(server.traffic) as reader:
        [said] = [one for one in reader.judged() if one.id == key]
    assert (said.rating, said.label) == (-1, None)
    assert said.correction == right.strip().replace("kim@example.com", "<email>")
    assert said.request == {"messages": HELLO}
    assert said.response is not None
    assert said.response["answer"] == expected(HELLO, 5)
    status, refusal = call("POST", "/v1/feedback", {"id": key, "correction": "x" * 20_001})
    assert (status, refusal["error"]["code"]) == (413, "text-too-long")
    assert call("POST", "/v1/feedback", {"id": "chatcmpl-none", "rating": 1})[0] == 404


def test_a_stream_that_was_stopped_is_kept_as_far_as_it_went(tmp_path: Path) -> None:
    with served(tmp_path, Parrot(slots=1, context=5000, pause_s=0.005)) as server, connected(server) as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True, max_tokens=4000)
        seen = [next(stream) for _ in range(5)]
        stream.close()
        row = logged(server, seen[0].id)
        assert row["response"]["finish_reason"] == "cancelled"
        assert row["response"]["answer"].startswith("".join(event.choices[0].delta.content or "" for event in seen))


def test_scoring_is_no_answer_and_is_not_logged(tmp_path: Path) -> None:
    with served(tmp_path, Parrot()) as server, connected(server) as client:
        client.completions.create(model="m", prompt="hello", max_tokens=0, echo=True, logprobs=1)
        client.completions.create(model="m", prompt="hello", max_tokens=1)
    with TrafficReader(server.traffic) as reader:
        assert [row.request for row in reader.requests()] == [{"prompt": "hello"}]


def test_model_health_and_metrics(call: Caller, client: OpenAI, server: Served) -> None:
    model = call("GET", "/v1/model")[1]
    assert (model["task"], model["runtime"], model["name"]) == ("text-generation", "stepper", "parrot")
    assert (model["context"], model["slots"], model["chats"], model["keeps_log"]) == (200, 3, True, True)
    assert model["generation"]["max_tokens"] == 60
    assert call("GET", "/readyz") == (200, {"ready": True, "version": 0})
    before = figures(server)
    client.chat.completions.create(model="m", messages=HELLO, max_tokens=7)
    client.completions.create(model="m", prompt=[BEGIN], max_tokens=0, echo=True, logprobs=0)
    after = figures(server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('llmops_tokens_total{kind="answer"}') == 7
    assert grown('llmops_tokens_total{kind="prompt"}') == len(CODEC.chat(HELLO))
    assert grown('llmops_tokens_total{kind="scored"}') == 1
    assert grown('llmops_finished_total{reason="length"}') == 1
    assert grown("llmops_first_token_seconds_count") == 1
    assert grown("llmops_answers_total") == 1
    assert (after["llmops_slots"], after["llmops_slots_active"], after["llmops_queue_depth"]) == (3, 0, 0)


# --- for a long time


def test_a_hundred_requests_with_hang_ups_and_bad_bodies_leave_no_slot_taken(tmp_path: Path) -> None:
    with served(tmp_path, Parrot(slots=3)) as server:
        counts = storm(server.port, range(100))
        assert min(counts.values()) > 5
        standin.wait_until(lambda: quiet(server), 20)
        with connected(server) as client:
            assert client.completions.create(model="m", prompt="hello", max_tokens=6).choices[0].text == " there"


@pytest.mark.prove
def test_a_thousand_requests_leave_no_slot_taken_and_memory_as_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.standin_writer", str(tmp_path)]
    with standin.started(command) as (process, port):
        sizes = []
        for first in range(0, 1000, 200):
            storm(port, range(first, first + 200))
            standin.wait_until(lambda: idle(port), 30, process)
            sizes.append(psutil.Process(process.pid).memory_info().rss / 1e6)
        process.terminate()
        process.wait(20)
    assert sizes[-1] < 1.05 * sizes[0], sizes


def test_the_server_loads_neither_torch_nor_transformers() -> None:
    script = "import sys, llmops.serving.server; print(sorted({'torch', 'transformers', 'openai'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=standin.HERE)
    assert done.stdout.strip() == "[]", done.stderr
