"""serving: tools that a chat may call: forced, free or forbidden, streamed, answered in turn, refused by name, logged.

Exact answers come from the stand-in that parrots a text; that a model learns to call from rows, and that an agent's
library can work with it, is shown with a small one that the loop trained.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from llmops.bundle.predictor import Predictor
from llmops.serving.openaimessages import read_messages
from llmops.serving.swap import Loaded
from llmops.tasks.text_generation import TextGeneration
from llmops.tasks.text_generation.config import TextGenerationSection
from tests import standin
from tests.standin import Caller
from tests.standin_writer import Parrot, ParrotCodec, Running, Served, answering, served
from tests.test_loop import llmops
from tests.tiny_calls import ANSWER, GAVE, TOLD, TOOLS, called, project, tool

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "Where is A1?"}]
STATUS = '<tool_call>\n{"name": "order_status", "arguments": {"order": "A1"}}\n</tool_call>'
HOURS = '<tool_call>\n{"name": "opening_hours", "arguments": {"city": "Bonn"}}\n</tool_call>'


def parrot(saying: str) -> Parrot:
    """A model that answers with `saying`."""
    return Parrot(context=700, saying=f"assistant: {saying}", reach=60)


def connected(port: int) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)


def ask(port: int, **more: Any) -> Any:
    with connected(port) as client:
        asked = {"model": "m", "messages": ASK, "tools": TOOLS, "max_tokens": 300, **more}
        return client.chat.completions.create(**asked).choices[0]


def calls_of(message: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(one.function.name, json.loads(one.function.arguments)) for one in message.tool_calls or []]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("tools"), parrot(f"Let me see.\n{STATUS}\n{HOURS}")) as server:
        yield server


# --- calls


def test_words_and_calls_come_apart(caller: Served) -> None:
    choice = ask(caller.port)
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert calls_of(choice.message) == [("order_status", {"order": "A1"}), ("opening_hours", {"city": "Bonn"})]
    ids = [one.id for one in choice.message.tool_calls]
    assert len(set(ids)) == 2 and all(one.startswith("call_") for one in ids)
    assert {one.type for one in choice.message.tool_calls} == {"function"}


def test_calls_are_streamed_name_first(caller: Served) -> None:
    with connected(caller.port) as client:
        events = list(
            client.chat.completions.create(
                model="m", messages=ASK, tools=TOOLS, max_tokens=300, stream=True, logprobs=True
            )
        )
    deltas = [event.choices[0].delta for event in events]
    assert "".join(delta.content or "" for delta in deltas) == "Let me see."
    parts = [part for delta in deltas for part in delta.tool_calls or []]
    for index, (name, arguments) in enumerate([("order_status", {"order": "A1"}), ("opening_hours", {"city": "Bonn"})]):
        mine = [part for part in parts if part.index == index]
        assert (mine[0].function.name, mine[0].type) == (name, "function")
        assert mine[0].id.startswith("call_")
        assert all(part.id is None and part.function.name is None for part in mine[1:])
        assert json.loads("".join(part.function.arguments for part in mine)) == arguments
    assert [event.choices[0].finish_reason for event in events if event.choices[0].finish_reason] == ["tool_calls"]
    told = [one for event in events if event.choices[0].logprobs for one in event.choices[0].logprobs.content or []]
    assert "".join(one.token for one in told).startswith(f"Let me see.\n{STATUS}")


def test_a_stream_helper_of_the_client_puts_calls_together(caller: Served) -> None:
    with (
        connected(caller.port) as client,
        client.chat.completions.stream(model="m", messages=ASK, tools=TOOLS, max_tokens=300) as stream,
    ):
        stream.until_done()
        message = stream.get_final_completion().choices[0].message
    assert calls_of(message)[0] == ("order_status", {"order": "A1"})


def test_one_call_at_most(caller: Served) -> None:
    choice = ask(caller.port, parallel_tool_calls=False)
    assert (choice.message.content, calls_of(choice.message)) == ("Let me see.", [("order_status", {"order": "A1"})])
    assert choice.finish_reason == "tool_calls"


def test_a_call_that_must_come(caller: Served) -> None:
    choice = ask(caller.port, tool_choice="required", parallel_tool_calls=False)
    assert choice.message.content is None
    assert len(calls_of(choice.message)) == 1
    named = ask(caller.port, tool_choice={"type": "function", "function": {"name": "opening_hours"}})
    assert [name for name, _ in calls_of(named.message)] == ["opening_hours"]
    assert named.finish_reason == "tool_calls"


def test_a_call_that_must_come_where_the_model_would_not(tmp_path: Path) -> None:
    narrow = [tool("order_status", "", order={"const": "A1"}), tool("opening_hours", "", city={"enum": ["Bonn"]})]
    with served(tmp_path, parrot("I would rather talk.")) as server:
        assert ask(server.port).message.content == "I would rather talk."
        for seed in range(5):
            choice = ask(
                server.port, tools=narrow, tool_choice="required", temperature=1, seed=seed, parallel_tool_calls=False
            )
            assert choice.message.content is None
            for name, arguments in calls_of(choice.message):
                assert (name, arguments) in (("order_status", {"order": "A1"}), ("opening_hours", {"city": "Bonn"}))


def test_none_tells_of_no_tools_and_reads_none(caller: Served) -> None:
    choice = ask(caller.port, tool_choice="none")
    assert choice.message.tool_calls is None
    assert (choice.message.content, choice.finish_reason) == (f"Let me see.\n{STATUS}\n{HOURS}", "stop")
    assert ask(caller.port, tools=[]).message.content == choice.message.content


def test_names_and_arguments_are_held_to_the_tools(tmp_path: Path) -> None:
    """The model would call what is not there, with arguments that are not asked for."""
    wrong = STATUS.replace("order_status", "order_stature").replace('"order":', '"orders":')
    strict = {"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}
    with served(tmp_path, parrot(wrong)) as server:
        [(name, arguments)] = calls_of(ask(server.port, tools=[strict], parallel_tool_calls=False).message)
        assert (name, set(arguments)) == ("order_status", {"order"})


def test_a_length_ends_a_call_as_far_as_it_is(caller: Served) -> None:
    choice = ask(caller.port, max_tokens=len(f"Let me see.\n{STATUS}") - 20)
    assert choice.finish_reason == "length"
    [call] = choice.message.tool_calls
    assert '{"order": "A1"}'.startswith(call.function.arguments)
    early = ask(caller.port, max_tokens=25)
    assert (early.finish_reason, early.message.tool_calls) == ("length", None)
    assert early.message.content == "Let me see.", "half a call is no words"


def test_tools_beside_a_format(caller: Served) -> None:
    schema = tool("said", "", ok={"type": "boolean"})["function"]["parameters"]
    form = {"type": "json_schema", "json_schema": {"name": "said", "strict": True, "schema": schema}}
    choices = [ask(caller.port, response_format=form, temperature=2, seed=seed) for seed in range(12)]
    for choice in choices:
        if choice.message.tool_calls:
            assert choice.message.content is None
        else:
            assert set(json.loads(choice.message.content)) == {"ok"}
    assert {bool(choice.message.tool_calls) for choice in choices} == {True, False}


def test_a_model_that_cannot_be_held_writes_calls_freely(tmp_path: Path) -> None:
    class Blind(ParrotCodec):
        def token_bytes(self) -> list[bytes]:
            raise ValueError("tokens depend on their neighbours")

    saying = f"Well, <tool_call>\nsoon\n</tool_call> {STATUS}"
    with served(tmp_path, parrot(saying), Blind(700)) as server:
        choice = ask(server.port)
        assert choice.message.content == "Well, <tool_call>\nsoon\n</tool_call>"
        assert calls_of(choice.message) == [("order_status", {"order": "A1"})]
        for more, param in (({"tool_choice": "required"}, "tool_choice"),
                            ({"response_format": {"type": "json_object"}}, "response_format")):  # fmt: skip
            status, said = Caller(server.port)("POST", CHAT, {"messages": ASK, "tools": TOOLS, **more})
            assert (status, said["error"]["param"]) == (400, param)
            assert "neighbours" in said["error"]["message"]


# --- what is refused

CALL = called("order_status", "A1")
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sent"}
FUNCTION = TOOLS[0]["function"]


def with_tool(**more: Any) -> dict[str, Any]:
    return {"messages": ASK, "tools": [{"type": "function", "function": {**FUNCTION, **more}}]}


def with_messages(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [*ASK, *messages], "tools": TOOLS}


def with_call(**function: Any) -> dict[str, Any]:
    """A call without an id."""
    return with_messages({**CALL, "tool_calls": [{"type": "function", "function": function}]})


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("a result of nothing", with_messages(RESULT), "messages[1].tool_call_id"),
    ("a result of another call", with_messages(CALL, {**RESULT, "tool_call_id": "x"}), "messages[2].tool_call_id"),
    ("a result twice", with_messages(CALL, RESULT, RESULT), "messages[3].tool_call_id"),
    ("a result without id", with_messages(CALL, {"role": "tool", "content": "x"}), "messages[2].tool_call_id"),
    ("a result without words", with_messages(CALL, {**RESULT, "content": None}), "messages[2].content"),
    ("a call without result", with_messages(CALL), "messages"),
    ("words before the result", with_messages(CALL, *ASK), "messages"),
    ("a user who calls", with_messages({**CALL, "role": "user"}), "messages[1]"),
    ("calls in words", with_messages({**CALL, "tool_calls": "x"}), "messages[1].tool_calls"),
    ("a call of nothing", with_messages({**CALL, "tool_calls": [{"id": "a", "type": "function"}]}),
     "messages[1].tool_calls[0].function"),
    ("a call without id", with_call(name="a", arguments="{}"), "messages[1].tool_calls[0].id"),
    ("arguments that are an object", with_call(id="a", name="a", arguments={}),
     "messages[1].tool_calls[0].function.arguments"),
    ("two calls of one id", with_messages({**CALL, "tool_calls": CALL["tool_calls"] * 2}), "messages[1].tool_calls"),
    ("an old kind of call", with_messages({"role": "assistant", "content": "x", "function_call": {"name": "a"}}),
     "messages[1].function_call"),
    ("a tool without name", {"messages": ASK, "tools": [{"type": "function", "function": {}}]},
     "tools[0].function.name"),
    ("a tool of another type", {"messages": ASK, "tools": [{"type": "web_search"}]}, "tools[0].type"),
    ("a name with spaces", with_tool(name="order status"), "tools[0].function.name"),
    ("a field of nobody", with_tool(returns="x"), "tools[0].function.returns"),
    ("arguments that are text", with_tool(parameters={"type": "string"}), "tools[0].function.parameters"),
    ("strict, and open", with_tool(strict=True, parameters={"type": "object", "properties": {}}),
     "tools[0].function.parameters"),
    ("what cannot be held", with_tool(parameters={"properties": {"a": {"type": "string", "pattern": "(?=x)"}}}),
     "tools[0].function.parameters"),
    ("two of one name", {"messages": ASK, "tools": [TOOLS[0], TOOLS[0]]}, "tools"),
    ("a choice without tools", {"messages": ASK, "tool_choice": "required"}, "tool_choice"),
    ("a choice of nobody", with_tool() | {"tool_choice": {"type": "function", "function": {"name": "x"}}},
     "tool_choice"),
    ("a choice in other words", with_tool() | {"tool_choice": "sometimes"}, "tool_choice"),
    ("an old kind of tools", {"messages": ASK, "functions": [FUNCTION]}, "functions"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "param"), BAD, ids=[case[0] for case in BAD])
def test_refused_by_name(caller: Served, name: str, body: dict[str, Any], param: str) -> None:
    status, said = Caller(caller.port)("POST", CHAT, body)
    assert (status, said["error"]["param"]) == (400, param), said
    assert said["error"]["type"] == "invalid_request_error"


def test_results_stand_in_the_order_of_their_calls() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [
        {"id": name, "type": "function", "function": {"name": "weather", "arguments": ""}} for name in ("x", "y", "z")
    ]}  # fmt: skip
    results = [{"role": "tool", "tool_call_id": name, "content": f"of {name}"} for name in ("z", "x", "y")]
    read = read_messages([*ASK, calls, *results, *ASK, calls, *results[::-1]])
    assert [one["content"] for one in read if one["role"] == "tool"] == ["of x", "of y", "of z"] * 2
    assert [one["role"] for one in read[:5]] == ["user", "assistant", "tool", "tool", "tool"]
    assert read[1]["tool_calls"][0]["function"]["arguments"] == "{}", "some send nothing where nothing is taken"


# --- what is kept


def test_the_log_holds_tools_and_calls_and_a_liked_one_becomes_a_row(caller: Served) -> None:
    messages = [*ASK, CALL, {**RESULT, "content": "sent to kim@example.com"}]
    with connected(caller.port) as client:
        said = client.chat.completions.create(model="m", messages=messages, tools=TOOLS, max_tokens=300)

    def rows() -> list[Any]:
        with sqlite3.connect(caller.traffic) as log:
            found = log.execute("SELECT request, response FROM requests WHERE id = ?", (said.id,)).fetchall()
        log.close()
        return found

    standin.wait_until(rows, 5)
    request, response = map(json.loads, rows()[0])
    assert request["tools"] == TOOLS
    assert request["messages"][1]["tool_calls"] == CALL["tool_calls"]
    assert request["messages"][2] == {**RESULT, "content": "sent to <email>"}
    assert (response["answer"], response["finish_reason"]) == (f"Let me see.\n{STATUS}\n{HOURS}", "tool_calls")
    assert caller.service.log is not None
    assert Caller(caller.port)("POST", "/v1/feedback", {"id": said.id, "rating": 1})[0] == 200
    caller.service.log.flush()
    from llmops.records.trafficreader import TrafficReader

    with TrafficReader(caller.traffic) as reader:
        [judged] = [one for one in reader.judged() if one.id == said.id]
    row = TextGeneration().harvested(TextGenerationSection(), judged)
    assert row is not None
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert row["messages"][-1]["content"] == f"Let me see.\n{STATUS}\n{HOURS}"


# --- a model that learnt it


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("learnt")
    verdict = json.loads(llmops("run", project(folder), "--json"))
    bundle = Path(verdict["path"]) / "compress" / "bundle"
    with answering(folder, Loaded(1, Predictor.open(bundle, threads=1, slots=4)), slots=4) as running:
        yield running


@pytest.mark.parametrize(("words", "name"), [
    ("Hi, Where is order B2?", "order_status"), ("One question: Hours in Kiel?", "opening_hours"),
    ("Track C3 please.", "order_status"), ("Is Ulm open on Sunday?", "opening_hours"),
])  # fmt: skip
def test_a_trained_model_calls_and_says_what_came_back(learnt: Running, words: str, name: str) -> None:
    messages: list[Any] = [{"role": "user", "content": words}]
    with connected(learnt.port) as client:
        said = client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
        [choice] = said.choices
        assert choice.finish_reason == "tool_calls"
        [call] = choice.message.tool_calls or []
        assert call.function.name == name
        messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": GAVE[name]}]
        then = client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    assert then.choices[0].message.content == TOLD[name]
    assert then.choices[0].finish_reason == "stop"


def test_a_trained_model_calls_nothing_where_nothing_is_asked(learnt: Running) -> None:
    with connected(learnt.port) as client:
        said = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Good morning"}], tools=TOOLS
        )
    assert (said.choices[0].message.content, said.choices[0].message.tool_calls) == (ANSWER, None)


@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_library_works_with_it(learnt: Running, stream: bool) -> None:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent, Tool
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    asked: list[str] = []

    def order_status(order: str) -> str:
        asked.append(order)
        return GAVE["order_status"]

    def opening_hours(city: str) -> str:
        raise AssertionError("nobody asked for it")

    tools = [Tool(order_status, description="Order"), Tool(opening_hours, description="Hours")]

    async def story() -> str:
        async with AsyncOpenAI(base_url=f"http://127.0.0.1:{learnt.port}/v1", api_key="none", max_retries=0) as client:
            agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client)), tools=tools)
            if not stream:
                return (await agent.run("Hi, Where is order B2?")).output
            async with agent.run_stream("Hi, Where is order B2?") as run:
                return await run.get_output()

    assert asyncio.run(story()) == TOLD["order_status"]
    assert len(asked) == 1
