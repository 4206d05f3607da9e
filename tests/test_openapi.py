"""/openapi.json and its page: valid, whole, and true: what it says is taken is taken, and all else is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops.serving.interface import TOLD
from tests import standin, webdriver
from tests.interface import Interface
from tests.standin import Caller
from tests.standin_writer import Parrot, Served, served

PREDICT, FEEDBACK, CHAT, COMPLETIONS = "/v1/predict", "/v1/feedback", "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home = tmp_path_factory.mktemp("openapi")
    with standin.serve_bundle(standin.make_bundle(home / "bundle"), home / "traffic.db", max_texts=3) as (_, port):
        yield port


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("openapi_chat"), Parrot()) as server:
        yield server


def test_a_server_of_texts_is_described(texts: int) -> None:
    told = Interface(texts)
    assert told.addresses == {
        PREDICT, FEEDBACK, "/v1/explain", "/v1/model", "/livez", "/readyz", "/metrics", "/openapi.json",
    }, "and no embeddings, which this model has none of"  # fmt: skip
    assert told.document["info"]["version"] == "0"
    assert told.agrees(PREDICT, told.example(PREDICT), good=True)["id"]


@pytest.mark.parametrize(("body", "good"), [
    ({"text": "my card"}, True), ({"text": "who knows"}, True), ({"texts": ["card", "parcel", "so what"]}, True),
    ({}, False), ({"text": 5}, False), ({"text": None}, False), ({"txet": "x"}, False), ([1], False),
    ({"texts": []}, False), ({"texts": "x"}, False), ({"texts": ["x", 5]}, False), ({"texts": ["x"] * 4}, False),
    ({"text": "x", "texts": ["x"]}, False), ({"text": "x", "more": 1}, False),
])  # fmt: skip
def test_the_description_of_predict_is_true(texts: int, body: Any, good: bool) -> None:
    Interface(texts).agrees(PREDICT, body, good)


def test_a_withheld_answer_is_described_too(texts: int) -> None:
    said = Interface(texts).agrees(PREDICT, {"text": "who knows"}, good=True)
    assert said["withheld"]["why"]


def test_the_description_of_feedback_is_true(texts: int) -> None:
    told = Interface(texts)
    key = Caller(texts).text("my card")["id"]
    for good in ({"rating": 1}, {"correction": "parcel", "by": "kim"}, {"correction": 7}):
        told.agrees(FEEDBACK, {"id": key, **good}, good=True)
    for bad in (
        {"id": 7, "rating": 1},
        {"rating": 1},
        {"id": key, "rating": "1"},
        {"id": key, "rating": 1, "who": "k"},
    ):
        told.agrees(FEEDBACK, bad, good=False)


def test_a_server_that_writes_is_described(writer: Served) -> None:
    told = Interface(writer.port)
    assert told.addresses == {
        CHAT, COMPLETIONS, FEEDBACK, "/v1/models", "/v1/models/{name}", "/v1/model", "/livez", "/readyz", "/metrics",
        "/openapi.json",
    }  # fmt: skip
    for path in (CHAT, COMPLETIONS):
        told.agrees(path, told.example(path), good=True)
        assert "text/event-stream" in told.document["paths"][path]["post"]["responses"]["200"]["content"]


HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(("path", "body", "good"), [
    (CHAT, {"messages": HELLO, "model": "any", "user": "kim", "max_tokens": 3, "temperature": 0.5, "stop": "x"}, True),
    (CHAT, {"messages": HELLO, "logprobs": True, "top_logprobs": 2, "max_tokens": 3, "stop": ["x", "y"]}, True),
    (COMPLETIONS, {"prompt": "hello", "max_tokens": 3, "seed": 1}, True),
    (COMPLETIONS, {"prompt": ["hello"], "max_tokens": 3}, True),
    (COMPLETIONS, {"prompt": [5, 6], "max_tokens": 3}, True),
    (CHAT, {}, False), (CHAT, {"messages": "hello"}, False), (CHAT, {"messages": HELLO, "temperature": 3}, False),
    (CHAT, {"messages": HELLO, "max_tokens": 0}, False), (CHAT, {"messages": HELLO, "no_such": 1}, False),
    (COMPLETIONS, {"prompt": 5}, False), (COMPLETIONS, {"prompt": "x", "echo": "yes"}, False),
])  # fmt: skip
def test_the_description_of_what_writes_is_true(writer: Served, path: str, body: Any, good: bool) -> None:
    Interface(writer.port).agrees(path, body, good)


def test_every_address_of_every_server_has_its_words(texts: int, writer: Served) -> None:
    found = Interface(texts).addresses | Interface(writer.port).addresses | {"/v1/embeddings"}
    assert {path.replace(":path", "") for path in TOLD} == found


def test_the_page_of_it_needs_nothing_from_elsewhere(texts: int) -> None:
    for path in ("/docs", "/api.js", "/api.css"):
        status, headers, body = Caller(texts).raw("GET", path)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"http://" not in body and b"https://" not in body and b"innerHTML" not in body


@pytest.mark.prove
@pytest.mark.skipif(webdriver.missing() is not None, reason=str(webdriver.missing()))
@pytest.mark.parametrize("kind", ["texts", "writer"])
def test_the_page_shows_every_address_and_field(texts: int, writer: Served, kind: str, tmp_path: Path) -> None:
    port = texts if kind == "texts" else writer.port
    told = Interface(port)
    with webdriver.browser(tmp_path) as browser:
        browser.size(360, 800)
        browser.open(f"http://127.0.0.1:{port}/")
        browser.click("footer a[href=docs]")
        browser.wait("#about", "version 0")
        shown = browser.text("#operations")
        for path in told.addresses:
            assert path in shown
        asked = told.document["components"]["schemas"]["TextRequest" if kind == "texts" else "ChatBody"]
        for name, field in asked["properties"].items():
            assert name in shown
            assert " ".join(field["description"].split()) in " ".join(shown.split())
        assert "required" in shown
        assert f"curl http://127.0.0.1:{port}" in shown
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        assert not browser.complaints()
