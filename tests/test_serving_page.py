"""serving: the page in a real browser: ask and correct, with the keyboard, safe from markup, at phone width."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmops.bundle.format import Manifest
from llmops.bundle.predictor import Predictor
from llmops.serving.swap import Loaded
from llmops.tasks.answering.messages import AnsweringRequest, AnsweringResponse, FoundEntry
from llmops.tasks.withheld import Withheld, less_sure
from tests import standin, webdriver
from tests.standin_writer import answering
from tests.webdriver import Browser

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(webdriver.missing() is not None, reason=str(webdriver.missing())),
]
ENTER, TAB = "\ue007", "\ue004"
EVIL = "<img src=x onerror=\"document.title='hacked'\">"
LABELS = ["card", "parcel", EVIL]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Browser]:
    bundle = standin.make_bundle(tmp_path / "bundle", labels=LABELS)
    with standin.serve_bundle(bundle, tmp_path / "traffic.db") as (_, port), webdriver.browser(tmp_path) as browser:
        browser.size(1280, 900)
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait("#about", "3 labels")
        yield browser
        assert not [said for said in browser.complaints() if "status of 4" not in said]
        assert browser.run("return document.title") == "Try the model"


def corrections(folder: Path) -> list[tuple]:
    with sqlite3.connect(folder / "traffic.db") as log:
        found = log.execute(
            "SELECT COALESCE(r.request ->> 'text', r.request ->> 'question'), f.rating, f.correction"
            " FROM feedback f JOIN requests r ON r.id = f.request_id"
        )
        rows = found.fetchall()
    log.close()
    return rows


def test_ask_and_correct_with_the_keyboard_alone(page: Browser, tmp_path: Path) -> None:
    page.press(f"my parcel is broken{ENTER}")
    page.wait("#label", "parcel")
    assert "The model says" in page.text("#kind")
    assert "100" in page.text("#ranking li:first-child")
    page.run("document.getElementById('wrong').focus()")
    page.press(ENTER)
    page.press(f"damaged{ENTER}")
    page.wait("#thanks", "damaged")
    standin.wait_until(lambda: corrections(tmp_path), 5)
    assert corrections(tmp_path) == [("my parcel is broken", -1, "damaged")]
    assert "damaged" in page.text("#history")
    assert page.run("return document.activeElement.id") == "text"


def test_every_control_is_reached_by_tab(page: Browser) -> None:
    page.press(f"card{ENTER}")
    page.wait("#label", "card")
    page.click("#wrong")
    page.run("document.body.focus(); document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    page.click("h1")
    for _ in range(8):
        page.press(TAB)
        reached.append(page.run("const it = document.activeElement; return it.id || it.textContent"))
    assert [name for name in reached if name in ("text", "send", "right", "wrong", "correction", "Save")] == [
        "text", "send", "right", "wrong", "correction", "Save",
    ]  # fmt: skip


def test_a_right_answer_is_noted(page: Browser, tmp_path: Path) -> None:
    page.press(f"card{ENTER}")
    page.wait("#label", "card")
    page.click("#right")
    page.wait("#thanks", "noted as right")
    standin.wait_until(lambda: corrections(tmp_path), 5)
    assert corrections(tmp_path) == [("card", 1, None)]


def test_a_withheld_answer_shows_what_it_would_have_been_and_why(page: Browser, tmp_path: Path) -> None:
    page.press(f"the weather is nice{ENTER}")
    page.wait("#kind", "abstains")
    assert page.text("#label") == "card"
    assert page.text("#withheld") == "Kept back: less sure (0.33) than the threshold (0.50)."
    assert page.text("#question") == "Would that be right?"
    assert page.text("#history .got") == "abstains (card?)"
    page.click("#right")
    page.wait("#thanks", "noted as right")
    standin.wait_until(lambda: corrections(tmp_path), 5)
    assert corrections(tmp_path) == [("the weather is nice", 1, "card")], "the label that it would have said is right"
    page.click("#text")
    page.press(f" parcel{ENTER}")
    page.wait("#kind", "The model says")
    assert page.run("return document.getElementById('withheld').textContent") == ""
    assert page.text("#question") == "Is that right?"


def test_markup_stays_text(page: Browser) -> None:
    page.press(f"{EVIL}{ENTER}")
    page.wait("#kind", "isn't sure")
    page.click("#wrong")
    page.press(f"{EVIL} {ENTER}")
    page.wait("#thanks", "<img")
    assert "<img" in page.text("#ranking")
    assert "<img" in page.text("#history")
    assert page.run("return document.images.length") == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_overflows(page: Browser, width: int) -> None:
    page.size(width, 800)
    page.press(f"{'averylongword' * 20} pelican{ENTER}")
    page.wait("#kind", "isn't sure")
    page.click("#wrong")
    assert page.run("return document.documentElement.scrollWidth") <= width
    small = "return [...document.querySelectorAll('button')].filter(b => b.offsetHeight && b.offsetHeight < 40).length"
    assert page.run(small) == 0


def test_a_refusal_is_shown_in_words(page: Browser) -> None:
    page.press(f"  {ENTER}")
    assert page.run("return document.getElementById('answer').hidden")
    page.run(
        "document.getElementById('text').maxLength = 100000; document.getElementById('text').value = 'x '.repeat(15000)"
    )
    page.click("#send")
    page.wait("#trouble", "Send at most 20,000 characters")


class WordCodec:
    """Finds the entry that shares most words with a question; stands in for the task `answering`."""

    Request, Response = AnsweringRequest, AnsweringResponse
    one, many = "question", "questions"
    sample = AnsweringRequest(question="Where is my parcel?")
    entries = ("Your parcel comes on Monday.", "We refund you within a week.", EVIL)

    def size(self, request: AnsweringRequest) -> int:
        return len(request.question)

    def cells(self, request: AnsweringRequest) -> int:
        return self.size(request)

    def encode(self, requests: Sequence[AnsweringRequest]) -> Any:
        return {"questions": [set(request.question.lower().split()) for request in requests]}

    lanes = 1

    def run(self, batch: Any) -> list[Any]:
        return [[[len(words & set(text.lower().split())) for text in self.entries] for words in batch["questions"]]]

    def decode(self, arrays: Sequence[Any], requests: Sequence[AnsweringRequest]) -> list[AnsweringResponse]:
        return [self.response(scores) for scores in arrays[0]]

    def response(self, scores: list[int]) -> AnsweringResponse:
        order = sorted(range(3), key=lambda place: -scores[place])
        found = [
            FoundEntry(entry=f"e{place}", text=self.entries[place], source=f"faq.md:{place}", score=scores[place] / 9)
            for place in order
        ]
        sure, best = scores[order[0]] > 0, found[0]
        withheld = None if sure else Withheld(answer=best.text, probability=0.1, why=less_sure(0.1, 0.5))
        return AnsweringResponse(
            answer=best.text if sure else None, withheld=withheld, entry=best.entry, source=best.source,
            score=best.score, confidence=0.9 if sure else 0.1, alternatives=found[1:],
        )  # fmt: skip


def test_a_model_that_finds_answers_shows_them_with_their_source(tmp_path: Path) -> None:
    codec = WordCodec()
    manifest = Manifest(task="answering", task_version=1, files={}, cleaning={}, settings={"threshold": 0.5})
    model = Loaded(0, Predictor(manifest, codec, codec))
    with answering(tmp_path, model) as served, webdriver.browser(tmp_path) as browser:
        browser.size(360, 800)
        browser.open(f"http://127.0.0.1:{served.port}/")
        browser.wait("#about", "answering")
        browser.press(f"where is my parcel{ENTER}")
        browser.wait("#label", "comes on Monday")
        assert browser.text("#source") == "faq.md:0"
        assert "refund" in browser.text("#ranking")
        browser.click("#wrong")
        right = "It comes on Tuesday, " + "and on no other day, " * 20
        browser.press(right + ENTER)
        browser.wait("#thanks", "Tuesday")
        standin.wait_until(lambda: corrections(tmp_path), 5)
        assert corrections(tmp_path) == [("where is my parcel", -1, right.strip())]
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        browser.run("document.getElementById('text').value = ''; document.getElementById('text').focus()")
        browser.press(f"nothing known{ENTER}")
        browser.wait("#kind", "abstains")
        assert browser.text("#label") == "Your parcel comes on Monday.", "what it would have said"
        assert browser.text("#withheld") == "Kept back: less sure (0.10) than the threshold (0.50)."
        assert "abstains" in browser.text("#history li:first-child .got")
        browser.click("#right")
        browser.wait("#thanks", "noted as right")
        standin.wait_until(lambda: len(corrections(tmp_path)) == 2, 5)
        assert corrections(tmp_path)[1] == ("nothing known", 1, "Your parcel comes on Monday.")
        assert browser.run("return document.images.length") == 0
        assert not browser.complaints()
