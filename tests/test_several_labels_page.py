"""serving: a model that gives several labels, asked and corrected over HTTP and on the page in a real browser."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import standin, webdriver
from tests.standin import Caller
from tests.webdriver import Browser

ENTER, SPACE, TAB = "\ue007", " ", "\ue004"
EVIL = "<img src=x onerror=\"document.title='hacked'\">"
LABELS = ["card", "parcel", "refund", EVIL]
browsed = pytest.mark.skipif(webdriver.missing() is not None, reason=str(webdriver.missing()))


def bundle(folder: Path, labels: list[str]) -> Path:
    """Gives each label whose name a text contains."""
    settings = {"labels": labels, "several": True, "max_tokens": 32, "thresholds": [0.9] * len(labels)}
    return standin.make_bundle(folder, labels, settings=settings, metrics={"valid": {"subset_accuracy": 0.75}})


@pytest.fixture
def port(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    labels = getattr(request, "param", LABELS)
    with standin.serve_bundle(bundle(tmp_path / "bundle", labels), tmp_path / "traffic.db") as (_, at):
        yield at


def test_labels_in_one_text_come_apart_where_the_data_has_a_separator(tmp_path: Path) -> None:
    made = standin.make_bundle(tmp_path / "bundle", LABELS[:3], settings={
        "labels": LABELS[:3], "several": True, "separator": ",", "max_tokens": 32, "thresholds": [0.9] * 3
    })  # fmt: skip
    with standin.serve_bundle(made, tmp_path / "traffic.db") as (_, at):
        call = Caller(at)
        name = call("POST", "/v1/predict", {"text": "card"})[1]["id"]
        for right in ("parcel, refund", ["parcel, refund"], ["refund", "parcel"]):
            status, told = call("POST", "/v1/feedback", {"id": name, "correction": right})
            assert (status, told["correction"], told["new_label"]) == (200, ["parcel", "refund"], False)
        status, told = call("POST", "/v1/feedback", {"id": name, "correction": ["card\u0000"]})
        assert status == 422 and "control character" in told["error"]["what"]
        described = call("GET", "/openapi.json")[1]["paths"]["/v1/feedback"]["post"]["requestBody"]
        assert isinstance(described["content"]["application/json"]["example"]["correction"], list)


@pytest.fixture
def page(tmp_path: Path, port: int) -> Iterator[Browser]:
    with webdriver.browser(tmp_path) as browser:
        browser.size(1280, 900)
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait("#about", "labels")
        yield browser
        assert not browser.complaints()
        assert browser.run("return document.title") == "Try the model"


def said(folder: Path, rows: int = 1) -> list[tuple[Any, ...]]:
    """(label, rating, correction) of what was said, once there is so much."""

    def read() -> list[tuple[Any, ...]]:
        with sqlite3.connect(folder / "traffic.db") as log:
            query = "SELECT r.label, f.rating, f.correction FROM feedback f JOIN requests r ON r.id = f.request_id"
            found = log.execute(query + " ORDER BY f.rowid").fetchall()
        log.close()
        return found

    standin.wait_until(lambda: len(read()) >= rows, 5)
    return read()


def test_a_correction_is_a_list(port: int, tmp_path: Path) -> None:
    call = Caller(port)
    answer = call.text("my card and the refund")
    assert {one["label"] for one in answer["labels"]} == {"card", "refund"}
    assert all(one["probability"] >= 0.9 for one in answer["labels"])
    assert {one["label"] for one in answer["others"]} == {"parcel", EVIL}
    assert call("GET", "/v1/model")[1]["several"] is True

    told = {"id": answer["id"], "correction": [" refund ", "damaged", "refund"]}
    status, noted = call("POST", "/v1/feedback", told)
    assert (status, noted) == (
        200,
        {"id": answer["id"], "correction": ["damaged", "refund"], "new_label": True},
    )
    assert call("POST", "/v1/feedback", {"id": answer["id"], "correction": []})[1]["new_label"] is False
    assert call("POST", "/v1/feedback", {"id": answer["id"], "correction": "card"})[1]["correction"] == ["card"]
    given = json.dumps(["card", "refund"])
    assert said(tmp_path, 3) == [
        (given, None, '["damaged", "refund"]'), (given, None, "[]"), (given, None, '["card"]'),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [["a", " "], ["a", 7], ["x" * 201], {"a": 1}, ["a"] * 1001, "  ", "y" * 201])
def test_what_is_no_list_of_labels_is_refused(port: int, wrong: Any) -> None:
    call = Caller(port)
    answer = call.text("card")
    status, refusal = call("POST", "/v1/feedback", {"id": answer["id"], "correction": wrong})
    assert (status, refusal["error"]["code"]) == (422, "bad-request")
    assert refusal["error"]["do"]


def test_a_model_of_one_label_refuses_a_list(tmp_path: Path) -> None:
    one = standin.make_bundle(tmp_path / "bundle")
    with standin.serve_bundle(one, tmp_path / "traffic.db") as (_, port):
        call = Caller(port)
        status, refusal = call("POST", "/v1/feedback", {"id": call.text("card")["id"], "correction": ["card"]})
    assert status == 422
    assert "several labels" in refusal["error"]["what"]


@browsed
@pytest.mark.prove
def test_several_labels_are_shown_and_corrected_with_the_keyboard_alone(page: Browser, tmp_path: Path) -> None:
    assert "right on 75 % of validation" in page.text("#about")
    page.press(f"my card and the parcel{ENTER}")
    page.wait("#label", "card, parcel")
    given = page.run("return [...document.querySelectorAll('#ranking .given .name')].map((name) => name.textContent)")
    assert sorted(given) == ["card", "parcel"]
    assert page.run("return document.querySelectorAll('#ranking li').length") == 4

    page.run("document.getElementById('wrong').focus()")
    page.press(ENTER)
    assert page.run("return document.activeElement.value") == "card"  # the first of the boxes
    page.press(SPACE)  # takes `card` out
    page.press(f"{TAB}{TAB}{SPACE}")  # ticks `refund`
    page.run("document.getElementById('correction').focus()")
    page.press(f"damaged{ENTER}")  # one that the model does not know
    ticked = "return [...document.querySelectorAll('#boxes :checked')].map((box) => box.value)"
    assert page.run(ticked) == ["parcel", "refund", "damaged"]
    assert page.run("return document.activeElement.id") == "correction"
    page.press(ENTER)
    page.wait("#thanks", "parcel, refund, damaged")
    assert said(tmp_path) == [('["card", "parcel"]', -1, '["damaged", "parcel", "refund"]')]
    assert "damaged" in page.text("#history")

    page.press(f"hello{ENTER}")
    page.wait("#label", "None of the labels")
    page.click("#right")
    page.wait("#thanks", "noted as right")
    assert said(tmp_path, 2)[1] == ("[]", 1, None)


@browsed
@pytest.mark.prove
def test_none_may_be_right_and_markup_stays_text(page: Browser, tmp_path: Path) -> None:
    page.press(f"refund{ENTER}")
    page.wait("#label", "refund")
    page.click("#wrong")
    assert EVIL in page.text("#boxes")
    page.press(f"{TAB}{TAB}{SPACE}")
    page.click("#correct .strong")
    page.wait("#thanks", "none of the labels")
    assert said(tmp_path) == [('["refund"]', -1, "[]")]
    assert page.run("return document.images.length") == 0


@browsed
@pytest.mark.prove
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_box_overflows(page: Browser, width: int, tmp_path: Path) -> None:
    page.size(width, 900)
    page.press(f"card parcel refund{ENTER}")
    page.wait("#label", "card")
    page.click("#wrong")
    assert page.run("return document.documentElement.scrollWidth") <= width
    small = "return [...document.querySelectorAll('.tick, button')].filter(b => b.offsetHeight && b.offsetHeight < 40)"
    assert page.run(f"{small}.length") == 0
    page.picture(tmp_path / f"several-{width}.png")


@browsed
@pytest.mark.prove
@pytest.mark.parametrize("port", [[f"label{n}" for n in range(40)]], indirect=True)
def test_of_many_labels_only_those_of_the_answer_have_a_box(page: Browser, tmp_path: Path) -> None:
    page.press(f"label7 label30{ENTER}")
    page.wait("#label", "label30")
    page.click("#wrong")
    assert page.run("return document.querySelectorAll('#boxes input').length") == 5
    page.run("document.getElementById('correction').focus()")
    page.press("label39")
    page.click("#add")
    page.click("#correct .strong")
    page.wait("#thanks", "label39")
    assert said(tmp_path)[0][2] == '["label30", "label39", "label7"]'
