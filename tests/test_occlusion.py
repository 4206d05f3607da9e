"""Which words an answer hangs on: over HTTP, and on the page in a real browser."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from llmops.tasks.text_classification.occlusion import parts, without
from tests import standin, webdriver
from tests.standin import Caller

browsed = pytest.mark.skipif(webdriver.missing() is not None, reason=str(webdriver.missing()))


@given(some.text(max_size=300), some.integers(1, 50))
def test_parts_are_the_words_in_order(text: str, most: int) -> None:
    found = parts(text, most)
    assert len(found) == min(len(text.split()), most)
    assert [word for start, end in found for word in text[start:end].split()] == text.split()
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    assert all(without(text, span).strip() for span in found)


def test_the_word_that_names_the_label_is_the_one_that_mattered(tmp_path: Path) -> None:
    with standin.serve_bundle(standin.make_bundle(tmp_path / "bundle"), tmp_path / "traffic.db") as (_, port):
        call = Caller(port)
        status, said = call("POST", "/v1/explain", {"text": "where is  my card today"})
        assert status == 200 and (said["best"], said["version"]) == ("card", 0)
        assert [part["text"] for part in said["parts"]] == "where is my card today".split()
        weights = {part["text"]: part["weight"] for part in said["parts"]}
        assert weights["card"] > 0.3 and all(abs(weights[word]) < 0.05 for word in ("where", "is", "my", "today"))
        assert [said["parts"][3]["start"], said["parts"][3]["end"]] == [13, 17]
        assert call("POST", "/v1/explain", {"text": "card"})[0] == 200, "nothing is left, and that is no mistake"
        assert len(call("POST", "/v1/explain", {"text": "card " * 500})[1]["parts"]) == 40
        assert call("POST", "/v1/explain", {"texts": ["card"]})[0] == 422
        assert call("POST", "/v1/explain", {"text": " "})[0] == 422
        assert call("GET", "/v1/model")[1]["explains"] is True


def test_of_several_labels_those_given_are_explained(tmp_path: Path) -> None:
    settings = {"labels": standin.LABELS, "several": True, "max_tokens": 32}
    bundle = standin.make_bundle(tmp_path / "bundle", settings=settings)
    with standin.serve_bundle(bundle) as (_, port):
        _, said = Caller(port)("POST", "/v1/explain", {"text": "my card and parcel"})
        weights = [part["weight"] for part in said["parts"]]
        assert sorted(range(4), key=lambda place: weights[place])[2:] == [1, 3]


@browsed
def test_the_page_shows_them(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle")
    with standin.serve_bundle(bundle, tmp_path / "traffic.db") as (_, port), webdriver.browser(tmp_path) as page:
        page.size(390, 844)
        page.open(f"http://127.0.0.1:{port}/")
        page.wait("#about", "labels")
        page.run(
            "document.querySelector('#text').value = '<b>my</b> card, please'; document.querySelector('#send').click()"
        )
        page.wait("#label", "card")
        page.run("document.querySelector('#explain').click()")
        page.wait("#words", "card")
        share = "+mark.style.getPropertyValue('--share')"
        strong = f"return [...document.querySelectorAll('#words mark')].map((mark) => [mark.textContent, {share}])"
        told = dict(page.run(strong))
        assert told["card,"] == 1 and told["<b>my</b>"] < 0.2 and told["please"] < 0.2
        assert page.run("return document.body.scrollWidth <= window.innerWidth"), "it fits a phone"
        assert not page.complaints()
        page.picture(tmp_path / "page.png")
