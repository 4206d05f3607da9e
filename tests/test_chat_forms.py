"""serving: answers held to JSON and schemas while they are written, several answers to one request, biased tokens.

The model is a real bundle with random weights: it means nothing by what it writes, so all form is the server's doing.
"""

from __future__ import annotations

import json
import sqlite3
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import numpy as np
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from llmops.bundle.predictor import Predictor
from llmops.bundle.sampling import Sampler
from llmops.core.protocols import TokenText
from llmops.serving.calls import CallReader
from llmops.serving.forms import CannotHold, Forms
from llmops.serving.grammar import Callable, Wanted
from llmops.serving.running import Running as Writing
from llmops.serving.stream import Ask, Piece, Stream
from llmops.serving.strictschema import check_size, check_strict
from llmops.serving.swap import Loaded
from llmops.tasks.text_generation.guard import GuardedTokenizer
from llmops.tasks.text_generation.pieces import Pieces
from llmops.tasks.text_generation.tokenizer import train_bpe, train_characters
from tests import standin
from tests.standin import Caller
from tests.standin_writer import Parrot, Running, answering, make_bundle, served

ASK = [{"role": "user", "content": "Tell me about the parcel."}]
CHAT = "/v1/chat/completions"


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": closed(number={"type": "integer"}, paid={"type": "boolean"}),
    "nested": closed(parcel=closed(weight={"type": "number", "minimum": 0, "maximum": 30}, full={"type": "boolean"})),
    "list": closed(sizes={"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "maxItems": 5}),
    "choice": closed(colour={"enum": ["red", "green", "blue", None]}, how={"const": "by post"}),
    "pattern": closed(
        order={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, day={"type": "string", "format": "date"}
    ),
    "either": closed(who={"anyOf": [{"type": "string", "maxLength": 8}, {"type": "null"}]}),
    "recursive": {
        "$defs": {"box": closed(inside={"anyOf": [{"$ref": "#/$defs/box"}, {"type": "null"}]})},
        **closed(box={"$ref": "#/$defs/box"}),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("forms")
    bundle = make_bundle(folder / "bundle", context=2048, layers=1)
    with answering(folder, Loaded(0, Predictor.open(bundle, threads=1, slots=4)), slots=4) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def held_to(schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


# --- JSON


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_answer_meets_its_schema(client: OpenAI, schema: dict[str, Any]) -> None:
    judge = jsonschema.Draft202012Validator
    check = judge(schema, format_checker=judge.FORMAT_CHECKER)
    said = client.chat.completions.create(
        model="m", messages=ASK, response_format=held_to(schema), temperature=1, n=8, seed=3, max_tokens=400
    )
    answers = [choice.message.content or "" for choice in said.choices]
    assert [choice.finish_reason for choice in said.choices] == ["stop"] * 8
    for answer in answers:
        check.validate(json.loads(answer))
        assert answer == json.dumps(json.loads(answer), ensure_ascii=False) or "number" in answer or "weight" in answer


def test_any_json_object(client: OpenAI) -> None:
    said = client.chat.completions.create(
        model="m", messages=ASK, response_format={"type": "json_object"}, temperature=1, n=6, seed=1, max_tokens=400
    )
    whole = [choice.message.content for choice in said.choices if choice.finish_reason == "stop"]
    assert whole
    assert all(isinstance(json.loads(text or ""), dict) for text in whole)
    assert all((choice.message.content or "").startswith("{") for choice in said.choices)


def test_without_a_form_this_model_writes_no_json(client: OpenAI) -> None:
    said = client.chat.completions.create(model="m", messages=ASK, temperature=1, seed=3, max_tokens=40)
    with pytest.raises(ValueError):
        json.loads(said.choices[0].message.content or "")


def test_a_length_that_ends_the_json_early_says_so(client: OpenAI) -> None:
    said = client.chat.completions.create(
        model="m", messages=ASK, response_format=held_to(SCHEMAS["pattern"]), max_tokens=10
    )
    assert said.choices[0].finish_reason == "length"
    assert said.usage and said.usage.completion_tokens == 10


def test_a_stream_and_its_probabilities_are_those_of_the_whole(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "m", "messages": ASK, "response_format": held_to(SCHEMAS["nested"]), "temperature": 1, "seed": 5,
        "logprobs": True, "top_logprobs": 2, "max_tokens": 200,
    }  # fmt: skip
    whole = client.chat.completions.create(**asked).choices[0]
    events = [event.choices[0] for event in client.chat.completions.create(**asked, stream=True)]
    assert "".join(event.delta.content or "" for event in events) == whole.message.content
    told = [token for event in events if event.logprobs for token in event.logprobs.content or []]
    assert whole.logprobs is not None
    assert [token.logprob for token in told] == [token.logprob for token in whole.logprobs.content or []]
    assert "".join(token.token for token in told) == whole.message.content
    assert events[-1].finish_reason == "stop"


def test_the_client_reads_a_pydantic_model(client: OpenAI) -> None:
    class Size(BaseModel):
        width: Literal[1, 2, 5]
        unit: Literal["cm", "m"]

    class Parcel(BaseModel):
        size: Size
        tags: Annotated[list[bool], Field(max_length=3)]

    said = client.chat.completions.parse(
        model="m", messages=ASK, response_format=Parcel, temperature=1, seed=8, max_tokens=450
    )
    assert isinstance(said.choices[0].message.parsed, Parcel)


def test_neighbours_without_a_form_are_not_touched(client: OpenAI, server: Running) -> None:
    from concurrent.futures import ThreadPoolExecutor

    free: dict[str, Any] = {"model": "m", "messages": ASK, "temperature": 1, "seed": 4, "max_tokens": 60}
    alone = client.chat.completions.create(**free).choices[0].message.content
    with ThreadPoolExecutor(4) as pool:
        held = [
            pool.submit(client.chat.completions.create, **free | {"response_format": held_to(SCHEMAS["nested"])})
            for _ in range(3)
        ]
        beside = pool.submit(client.chat.completions.create, **free).result()
        assert beside.choices[0].message.content == alone
        assert len({one.result().choices[0].message.content for one in held}) == 1


# --- what cannot be held

OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("open", OPEN, "response_format.json_schema.schema", "additionalProperties"),
    ("not required", {**OPEN, "additionalProperties": False}, "response_format.json_schema.schema", "'a' is not"),
    ("open within", closed(a=OPEN), "response_format.json_schema.schema", "#/properties/a"),
    ("no object", {"type": "string"}, "response_format.json_schema.schema", "at its top"),
    ("a keyword", closed(a={"type": "array", "items": {"type": "null"}, "uniqueItems": True}),
     "response_format.json_schema.schema", "uniqueItems"),
    ("no type of JSON", closed(a={"type": "strnig"}), "response_format.json_schema.schema", "strnig"),
    ("nothing possible", closed(a={"enum": []}), "response_format.json_schema.schema", "Unsatisfiable"),
    ("a pattern", closed(a={"type": "string", "pattern": "(["}), "response_format.json_schema.schema", "regex"),
    ("elsewhere", closed(a={"$ref": "http://127.0.0.1/x.json"}), "response_format.json_schema.schema", "127.0.0.1"),
    ("too large", closed(a={"enum": [f"value {number}" for number in range(5000)]}),
     "response_format.json_schema.schema", "characters"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "schema", "param", "words"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_schema_that_cannot_be_held_is_refused(
    client: OpenAI, name: str, schema: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=ASK, response_format=held_to(schema))
    assert (caught.value.param, caught.value.code) == (param, "invalid_schema")
    assert words in str(caught.value)


def test_without_strict_what_cannot_be_held_is_let_go(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "null"}, "uniqueItems": True}}}
    said = client.chat.completions.create(
        model="m", messages=ASK, response_format=held_to(schema, strict=False), temperature=1, seed=2, max_tokens=60
    )
    assert (said.choices[0].message.content or "").startswith("{")


@pytest.mark.parametrize(("given", "param"), [
    ({"type": "xml"}, "response_format"), ({"type": "json_schema"}, "response_format.json_schema"),
    ({"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}, "response_format.json_schema.name"),
    ({"type": "json_schema", "json_schema": {"name": "a"}}, "response_format.json_schema.schema"),
    ({"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "x": 1}}, "response_format.json_schema.x"),
    ("json", "response_format"),
])  # fmt: skip
def test_a_format_of_nobody_is_refused_by_name(server: Running, given: Any, param: str) -> None:
    status, said = Caller(server.port)("POST", CHAT, {"messages": ASK, "response_format": given})
    assert (status, said["error"]["param"]) == (400, param)


def endless() -> dict[str, Any]:
    """A schema whose automaton remembers where in the last 300 letters each letter stood."""
    letters = string.ascii_letters + string.digits
    return closed(a={"type": "string", "pattern": f"^({'|'.join(f'.*{one}.{{300}}!' for one in letters)})$"})


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_grows_too_complex_ends_its_answer_in_words_and_nobody_elses(
    client: OpenAI, stream: bool
) -> None:
    def ask() -> None:
        list(
            client.chat.completions.create(
                model="m", messages=ASK, response_format=held_to(endless()), temperature=2, seed=1, max_tokens=1950,
                stream=stream, logit_bias={"1": 100},  # it would rather end, which never fits
            )
        )  # fmt: skip

    with pytest.raises(openai.APIError, match="too many states") as caught:
        ask()
    assert (caught.value.param, caught.value.code) == ("response_format.json_schema.schema", "invalid_schema")
    assert client.chat.completions.create(model="m", messages=ASK, max_tokens=3).usage


@pytest.mark.parametrize(("form", "good", "bad"), [
    ("date", ["2024-02-29", "2000-02-29", "0001-01-31"], ["2023-02-29", "1900-02-29", "0000-01-01", "2023-04-31"]),
    ("time", ["23:59:59Z", "10:00:00.25+05:30"], ["10:00:60Z", "24:00:00Z", "10:00:00", "10:00:00+24:00"]),
    ("date-time", ["2024-02-29T10:00:00Z"], ["2023-02-29T10:00:00Z", "2024-02-29"]),
])  # fmt: skip
def test_impossible_dates_are_not_written(form: str, good: list[str], bad: list[str]) -> None:
    codec: Any = Bare(train_characters([string.printable]), "<|end|>")
    plain = closed(day={"type": "array", "items": {"anyOf": [{"type": "string", "format": form}]}, "maxItems": 1})
    forms = Forms(codec)
    for text in (*good, *bad):
        [held] = forms.make(Wanted(plain, strict=True), 1)
        fitting = True
        for token in codec.letters(json.dumps({"day": [text]})):
            fitting = fitting and held.fits(token)
            if fitting:
                held.take(token)
        assert fitting == (text in good), text


def test_schemas_within_schemas_are_counted() -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(70):
        deep = {"items": deep}
    assert "in each other" in (check_size(deep) or "")
    assert check_size(SCHEMAS["recursive"]) is None
    assert all(check_strict(schema) is None for schema in SCHEMAS.values())
    hidden = closed(a={"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": ["object", "null"]}}]})
    assert "#/properties/a/anyOf/1/items" in (check_strict(hidden) or "")


# --- tokenizers


class Bare:
    """As much of a codec as forms ask for."""

    call_marks = ("<tool_call>", "</tool_call>")

    def __init__(self, tokenizer: Tokenizer, end: str) -> None:
        self.guarded, self.pieces = GuardedTokenizer(tokenizer), Pieces(tokenizer)
        self.vocabulary = tokenizer.get_vocab_size() + 3  # a network's output may be padded
        self.end_tokens = frozenset({tokenizer.token_to_id(end)})
        kept = tokenizer.get_added_tokens_decoder().items()
        self.added = {token.content: number for number, token in kept if not token.special}

    def letters(self, text: str) -> list[int]:
        return self.guarded.letters(text)

    def token_bytes(self) -> list[bytes]:
        return self.pieces.every(self.vocabulary)

    def writer(self) -> TokenText:
        return self.pieces.writer()


def sentence_pieces() -> Tokenizer:
    """A tokenizer of SentencePiece's kind: `▁` for spaces, bytes where a character is unknown."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *'▁abcdefnorutls{}[]:,"0123456789']
    tokenizer = Tokenizer(
        models.BPE({name: at for at, name in enumerate(names)}, [], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


TEXTS = [
    '{"a": [1, 2.5e3], "b": "naïve 🙂"}',
    "plain words, twice  spaced",
    "你好，世界",
    "<tool_call>\n{}\n</tool_call>",
]


def bytewise() -> Tokenizer:
    tokenizer = train_bpe(TEXTS * 4, 300)
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<think>", "{}")])
    return tokenizer


@pytest.mark.parametrize(("make", "end"), [
    (bytewise, "<|end|>"), (lambda: train_characters(TEXTS), "<|end|>"), (sentence_pieces, "</s>"),
])  # fmt: skip
def test_tokens_of_every_kind_of_tokenizer_make_json_without_special_ones(make: Any, end: str) -> None:
    tokenizer = make()
    codec: Any = Bare(tokenizer, end)
    forms, dice = Forms(codec), np.random.default_rng(0)
    sampler = Sampler(1.0, 1.0, 7)
    kept = set(tokenizer.get_added_tokens_decoder()) | set(range(tokenizer.get_vocab_size(), codec.vocabulary))
    schema = closed(
        a={"type": "string", "maxLength": 12}, b={"type": "array", "items": {"type": "number"}, "maxItems": 2}
    )
    for form in forms.make(Wanted(schema, strict=True), 5):
        tokens: list[int] = []
        whole = False
        while not whole:
            allowed = form.allowed()
            tokens.append(sampler.choose(dice.normal(size=codec.vocabulary).astype(np.float32), allowed))
            assert form.fits(tokens[-1])
            whole = form.take(tokens[-1])
        assert not kept & set(tokens)
        jsonschema.validate(json.loads(codec.pieces.text(tokens)), schema)


@pytest.mark.parametrize("names", [(), ("<think>",), ("<tool_call>", "</tool_call>", "<think>")])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_words_and_calls_with_marks_that_are_tokens_of_their_own(names: tuple[str, ...], choice: str) -> None:
    """Words may hold added tokens and no special ones; the arguments of a call hold neither; every call is whole."""
    tokenizer = train_bpe(TEXTS * 4, 300)
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    codec: Any = Bare(tokenizer, "<|end|>")
    [end] = codec.end_tokens
    tool = Callable("say", closed(a={"type": "string", "maxLength": 6}), strict=True)
    dice = np.random.default_rng(1)
    seen: set[int] = set()
    for form in Forms(codec).make(Wanted(tools=(tool,), choice=choice), 20):
        stream = Stream(Ask([0], 400, temperature=3.0, seed=int(dice.integers(99)), form=form))
        running, tokens, piece = Writing(stream, 0, codec), [], Piece("")
        while piece.finish is None:
            logits = dice.normal(size=codec.vocabulary).astype(np.float32)
            if choice == "auto":
                logits[tokenizer.encode("<tool_call>", add_special_tokens=False).ids] += 6
            piece = running.advance(logits)
            tokens.append(running.token)
        seen |= set(tokens)
        if piece.finish == "stop":
            reader = CallReader(codec.call_marks, ["say"], held=False)
            words = [one.words for one in reader.push(codec.pieces.text(tokens)) + reader.end()]
            assert "<tool_call>" not in "".join(words)
            assert all(set(json.loads(call.arguments)) == {"a"} for call in reader.calls)
            assert not any(name in call.arguments for call in reader.calls for name in names)
            assert reader.calls or choice == "auto"
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    assert seen & special <= {end}
    assert max(seen) < tokenizer.get_vocab_size()
    assert set(codec.added.values()) - seen <= (set() if choice == "auto" else {codec.added.get("<think>")})


def test_a_tokenizer_whose_tokens_have_no_bytes_is_refused_in_words() -> None:
    tokenizer = train_characters(TEXTS)
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(CannotHold, match="no bytes of their own") as caught:
        Forms(Bare(tokenizer, "<|end|>")).make(Wanted({"type": "object"}), 1)  # type: ignore[arg-type]
    assert caught.value.general


# --- several answers, biases


def test_several_answers_differ_and_repeat(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "m", "messages": ASK, "temperature": 1, "seed": 11, "max_tokens": 12}
    three = client.chat.completions.create(**asked, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in three.choices]
    assert len(set(texts)) == 3
    assert [choice.message.content for choice in client.chat.completions.create(**asked, n=3).choices] == texts
    one = client.chat.completions.create(**asked)
    assert one.choices[0].message.content == texts[0]
    assert three.usage and one.usage
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 36


def test_several_answers_are_streamed_side_by_side(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "m", "messages": ASK, "temperature": 1, "seed": 11, "max_tokens": 12, "n": 3}
    whole = client.chat.completions.create(**asked)
    events = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    for index, choice in enumerate(whole.choices):
        mine = [part for event in events for part in event.choices if part.index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(part.delta.content or "" for part in mine) == choice.message.content
        assert [part.finish_reason for part in mine if part.finish_reason] == ["length"]
    assert events[-1].usage is not None and events[-1].usage.completion_tokens == 36


def test_several_completions_with_their_echo(client: OpenAI) -> None:
    said = client.completions.create(
        model="m", prompt="abc", n=2, echo=True, logprobs=1, temperature=1, seed=1, max_tokens=4
    )
    assert [choice.index for choice in said.choices] == [0, 1]
    for choice in said.choices:
        assert choice.text.startswith("abc")
        assert choice.logprobs and choice.logprobs.tokens and len(choice.logprobs.tokens) == 7
    scored = client.completions.create(model="m", prompt="abc", n=2, echo=True, max_tokens=0)
    assert [choice.text for choice in scored.choices] == ["abc", "abc"]


def test_one_of_several_answers_cannot_be_meant_by_feedback_and_is_logged_as_choices(
    client: OpenAI, server: Running
) -> None:
    said = client.chat.completions.create(model="m", messages=ASK, n=2, max_tokens=3)

    def rows() -> list[Any]:
        with sqlite3.connect(server.traffic) as log:
            found = log.execute("SELECT response FROM requests WHERE id = ?", (said.id,)).fetchall()
        log.close()
        return found

    standin.wait_until(rows, 5)
    response = json.loads(rows()[0][0])
    assert [one["message"]["content"] for one in response["choices"]] == [one.message.content for one in said.choices]


def test_a_bias_bans_and_forces_and_leaves_probabilities_alone(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "m", "messages": ASK, "max_tokens": 6, "logprobs": True, "top_logprobs": 20, "temperature": 0
    }  # fmt: skip
    free = client.chat.completions.create(**asked).choices[0]
    assert free.logprobs is not None
    letter = 5 + 64  # some letter: specials are 0 to 4
    forced = client.chat.completions.create(**asked, logit_bias={str(letter): 100}).choices[0]
    assert forced.logprobs is not None
    [first] = (forced.logprobs.content or [])[:1]
    assert len({token.token for token in forced.logprobs.content or []}) == 1
    before = (free.logprobs.content or [])[0].top_logprobs
    assert [(one.token, one.logprob) for one in first.top_logprobs] == [(one.token, one.logprob) for one in before]
    assert first.logprob <= before[0].logprob
    banned = client.chat.completions.create(**asked, logit_bias={str(letter): 100, str(letter + 1): -100}).choices[0]
    assert banned.message.content == forced.message.content


def test_a_banned_token_does_not_come(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "m", "messages": ASK, "max_tokens": 30, "temperature": 2, "seed": 1}
    bans = {str(token): -100 for token in range(5, 100)}
    said = client.chat.completions.create(**asked, logit_bias=bans, logprobs=True).choices[0]
    kept = {token.token for token in (said.logprobs and said.logprobs.content) or []}
    plain = client.chat.completions.create(**asked, logprobs=True).choices[0]
    usual = {token.token for token in (plain.logprobs and plain.logprobs.content) or []}
    letters = {chr(code) for code in range(0x21, 0x7F)}
    assert usual & letters
    assert not kept & {"!", '"', "#", "$", "0", "A", "a"}


def test_a_mistake_in_one_answer_ends_all_of_the_request(tmp_path: Path) -> None:
    """One of three answers breaks off; the slots of the others are free again."""
    stepper = Parrot(slots=3, context=50_000, pause_s=0.001)
    with served(tmp_path, stepper) as server:
        body = {"messages": ASK, "n": 3, "stream": True, "max_tokens": 40_000, "ignore_eos": True}
        scheduler = server.service.desk.scheduler
        caller = Caller(server.port)
        caller.connection.request("POST", CHAT, json.dumps(body).encode(), {"Content-Type": "application/json"})
        response = caller.connection.getresponse()
        response.read(300)
        standin.wait_until(lambda: scheduler.active() == 3, 10)
        struck = scheduler._running[1].stream
        scheduler._loop.call_soon_threadsafe(struck.deliver, ArithmeticError("the model broke"))
        said = response.read()
        assert b"the server made a mistake" in said
        standin.wait_until(lambda: scheduler.active() == 0, 10)
        caller.connection.close()
