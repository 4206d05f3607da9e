"""/v1/embeddings: a trained encoder behind a real server, asked by OpenAI's official client and by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI

from llmops.core.protocols import Embedder
from tests import standin
from tests.interface import Interface
from tests.standin import Caller
from tests.standin_writer import Parrot, served
from tests.test_answering import Opened, World

ASKED = ["parcel courier van", "money card charged", "where is my parcel today"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    world = World(tmp_path_factory.mktemp("embeddings"), epochs=2)
    return world.bundle(world.folder / "bundle", slope=10.0, intercept=-5.0)


@pytest.fixture(scope="module")
def port(opened: Opened) -> Iterator[int]:
    with standin.serve_bundle(opened.folder, max_texts=4, max_text_chars=1000) as (_, port):
        yield port


@pytest.fixture
def client(port: int) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        yield client


def vectors(opened: Opened, texts: list[str]) -> np.ndarray[Any, Any]:
    arrays = opened.codec.arrays([opened.codec.clean(text) for text in texts])
    return np.asarray(opened.runtime.run(arrays)[0])


def test_the_official_client_gets_the_encoders_vectors(client: OpenAI, opened: Opened) -> None:
    said = client.embeddings.create(model="any", input=ASKED)  # it asks for base64 by itself
    got = np.array([one.embedding for one in said.data])
    assert [one.index for one in said.data] == [0, 1, 2]
    assert np.abs(got - vectors(opened, ASKED)).max() < 1e-5
    assert np.linalg.norm(got, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    tokens = sum(len(opened.codec.tokenizer.encode(text).ids) for text in ASKED)
    assert (said.usage.prompt_tokens, said.usage.total_tokens, said.model) == (tokens, tokens, "any")
    assert got[0] @ got[2] > got[0] @ got[1], "what is about the same thing lies nearer"


def test_floats_and_base64_are_the_same_numbers(client: OpenAI, opened: Opened) -> None:
    floats = client.embeddings.create(model="any", input="my parcel", encoding_format="float", user="kim")
    packed = client.embeddings.create(model="any", input="my parcel", encoding_format="base64")
    assert isinstance(packed.data[0].embedding, str)
    numbers = np.frombuffer(base64.b64decode(packed.data[0].embedding), "<f4")
    assert floats.data[0].embedding == numbers.astype(float).tolist()
    assert client.embeddings.create(model="any", input="my parcel", dimensions=opened.codec.width).data


def test_more_texts_than_one_call_predicts_are_computed_in_turns(client: OpenAI, opened: Opened) -> None:
    texts = [f"parcel {'van ' * (place % 5)}" for place in range(30)]
    said = client.embeddings.create(model="any", input=texts)
    assert np.abs(np.array([one.embedding for one in said.data]) - vectors(opened, texts)).max() < 1e-5


def test_questions_and_texts_share_batches(opened: Opened) -> None:
    assert isinstance(opened.codec, Embedder)
    with standin.serve_bundle(opened.folder, max_wait_ms=300, max_batch=8) as (_, port):

        def question(number: int) -> Any:
            return Caller(port)("POST", "/v1/predict", {"question": f"parcel {number}", "phrase": False})

        def text(number: int) -> Any:
            return Caller(port)("POST", "/v1/embeddings", {"input": f"parcel {number}"})

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(question, number) for number in range(4)]
            embedded = [pool.submit(text, number) for number in range(4)]
        lines = Caller(port).raw("GET", "/metrics")[2].decode().splitlines()
        sizes = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if "batch_size_" in line)}
    assert sizes["llmops_batch_size_sum"] == 8
    assert sizes["llmops_batch_size_count"] < 8
    for number, (one, other) in enumerate(zip(asked, embedded, strict=True)):
        status, said = one.result()
        assert (status, bool(said["entry"])) == (200, True)
        got = other.result()[1]["data"][0]["embedding"]
        assert np.abs(np.array(got) - vectors(opened, [f"parcel {number}"])[0]).max() < 1e-5


def test_decode_keeps_the_order_of_a_mixed_batch(opened: Opened) -> None:
    codec = opened.codec
    mixed = [codec.embedding("parcel van"), codec.sample, codec.embedding("refund"), codec.sample]
    first, answer, second, again = codec.decode(opened.runtime.run(codec.encode(mixed)), mixed)
    assert answer == again == opened.answer(codec.sample)[0]
    assert np.abs(np.stack([first.values, second.values]) - vectors(opened, ["parcel van", "refund"])).max() < 1e-5
    assert not first.cut


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("nothing", {}, "input", "`input` is missing"),
    ("an empty text", {"input": ""}, "input", "a text is empty"),
    ("a blank one among others", {"input": ["x", " "]}, "input", "a text is empty"),
    ("an empty list", {"input": []}, "input", "at least 1"),
    ("tokens", {"input": [1, 2]}, "input", "a model's tokens are its own"),
    ("lists of tokens", {"input": [[1, 2]]}, "input", "a model's tokens are its own"),
    ("a number", {"input": 5}, "input", "list"),
    ("null among texts", {"input": ["x", None]}, "input", "string"),
    ("too many", {"input": ["x"] * 2049}, "input", "2048"),
    ("fewer dimensions", {"input": "x", "dimensions": 8}, "dimensions", "vectors have 32 numbers"),
    ("another format", {"input": "x", "encoding_format": "int8"}, "encoding_format", "'float' or 'base64'"),
    ("a wrong name", {"input": "x", "dimension": 8}, "dimension", "there is no field `dimension`"),
    ("a long text", {"input": ["x", "y" * 1001]}, "input[1]", "1,001 characters"),
    ("more tokens than it reads", {"input": ["x", "parcel " * 40]}, "input[1]", "more than the 32 tokens"),
]


@pytest.mark.parametrize(("name", "body", "param", "words"), BAD, ids=[case[0] for case in BAD])
def test_what_is_wrong_is_refused_by_name(port: int, name: str, body: dict, param: str, words: str) -> None:
    status, said = Caller(port)("POST", "/v1/embeddings", body)
    error = said["error"]
    assert status == 400
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_the_description_of_embeddings_is_true(port: int) -> None:
    told = Interface(port)
    assert told.agrees("/v1/embeddings", told.example("/v1/embeddings"), good=True)["data"][0]["object"] == "embedding"
    for body in ({"input": "x", "model": "m", "user": "u"}, {"input": ["x"], "encoding_format": "base64"}):
        told.agrees("/v1/embeddings", body, good=True)
    for name, body, _, _ in BAD:
        if name in ("nothing", "tokens", "a number", "null among texts", "another format", "a wrong name"):
            told.agrees("/v1/embeddings", body, good=False)
    told.agrees("/v1/predict", told.example("/v1/predict"), good=True)


def test_the_client_raises_what_it_should(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="vectors have 32 numbers"):
        client.embeddings.create(model="any", input="x", dimensions=5)


def test_models_without_an_encoder_say_so(tmp_path: Path) -> None:
    body = json.dumps({"input": "hello"}).encode()
    with standin.serve_bundle(standin.make_bundle(tmp_path / "bundle")) as (_, port):
        status, _, said = Caller(port).raw("POST", "/v1/embeddings", body)
        error = json.loads(said)["error"]
        assert (status, error["code"]) == (404, "no_embeddings")
        assert "text-classification" in error["message"] and "`answering`" in error["message"]
    with (
        served(tmp_path, Parrot()) as server,
        OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.NotFoundError, match="gives no embeddings"),
    ):
        client.embeddings.create(model="any", input="hello")
