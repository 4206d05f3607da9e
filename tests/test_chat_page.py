"""serving: the chat page in a real browser: talk, stop, rate, correct, begin anew; by keyboard, at phone width."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import standin, webdriver
from tests.standin_writer import Parrot, ParrotCodec, Served, alone, served
from tests.webdriver import Browser

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(webdriver.missing() is not None, reason=str(webdriver.missing())),
]
ENTER, TAB = "\ue007", "\ue004"
EVIL = "<img src=x onerror=\"document.title='hacked'\">"
CODEC = ParrotCodec()


@dataclass
class Page:
    """The browser on the page of a server."""

    browser: Browser
    server: Served

    def say(self, words: str) -> None:
        self.browser.run("document.getElementById('text').focus()")
        self.browser.press(words + ENTER)

    def answers(self) -> list[str]:
        found = self.browser.run(
            "return [...document.querySelectorAll('.answer:not(.writing) .words')].map(words => words.textContent)"
        )
        return list(found)

    def wait_for_answers(self, count: int) -> None:
        standin.wait_until(lambda: len(self.answers()) == count and self.idle(), 20)

    def idle(self) -> bool:
        return bool(self.browser.run("return document.getElementById('stop').hidden"))

    def rows(self, sql: str) -> list[tuple]:
        with sqlite3.connect(self.server.traffic) as log:
            found = log.execute(sql).fetchall()
        log.close()
        return found

    def opinions(self) -> list[tuple]:
        return self.rows("SELECT rating, correction, by FROM feedback ORDER BY rowid")


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    settings: dict[str, Any] = getattr(request, "param", {})
    stepper = Parrot(context=settings.get("context", 400), pause_s=settings.get("pause_s", 0.0))
    codec = ParrotCodec(stepper.context)
    codec.chats = settings.get("chats", True)
    with served(tmp_path, stepper, codec) as server, webdriver.browser(tmp_path) as browser:
        browser.size(1280, 900)
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait("#about", "remembers")
        yield Page(browser, server)
        assert not [said for said in browser.complaints() if "status of 4" not in said]
        assert browser.run("return document.title") == "Talk to the model"


def expected(*said: str) -> str:
    roles = ["user", "assistant"] * len(said)
    messages = [{"role": role, "content": words} for role, words in zip(roles, said, strict=False)]
    return CODEC.text(alone(CODEC.chat(messages), 60))


def test_a_conversation_with_the_keyboard_alone(page: Page) -> None:
    page.browser.press(f"hello{ENTER}")
    page.wait_for_answers(1)
    first = expected("hello")
    assert page.answers() == [first]
    assert page.browser.run("return document.activeElement.id") == "text"
    page.say("and how are you")
    page.wait_for_answers(2)
    assert page.answers()[1] == expected("hello", first, "and how are you")
    assert "longer" in page.browser.text(".answer:last-child .ended")
    assert page.answers()[1] in page.browser.run("return document.getElementById('heard').textContent")
    standin.wait_until(lambda: len(page.rows("SELECT 1 FROM requests")) == 2, 5)


def test_every_control_is_reached_by_tab(page: Page) -> None:
    page.say("hello")
    page.wait_for_answers(1)
    page.browser.click(".mend")
    page.browser.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.browser.click("h1")
    reached = []
    for _ in range(9):
        page.browser.press(TAB)
        reached.append(page.browser.run("const it = document.activeElement; return it.id || it.className"))
    assert reached == ["fresh", "good", "bad", "mend", "right", "leave", "strong", "text", "send"]


def test_rating_and_correcting(page: Page) -> None:
    page.say("hello")
    page.wait_for_answers(1)
    page.browser.click(".good")
    page.browser.wait(".thanks", "noted as good")
    assert page.browser.run("return document.querySelector('.good').getAttribute('aria-pressed')") == "true"
    page.browser.click(".mend")
    assert page.browser.run("return document.activeElement.className") == "right"
    assert page.browser.run("return document.activeElement.value") == page.answers()[0]
    page.browser.run("document.activeElement.value = ''")
    page.browser.press("hello to you")
    page.browser.click(".correct .strong")
    page.browser.wait(".thanks", "goes on from your words")
    assert page.browser.run("return document.querySelector('.correct').hidden")
    standin.wait_until(lambda: len(page.opinions()) == 2, 5)
    assert page.opinions() == [(1, None, "page"), (-1, "hello to you", "page")]
    assert page.browser.run("return document.querySelector('.bad').getAttribute('aria-pressed')") == "true"
    page.say("thanks")
    page.wait_for_answers(2)
    assert page.answers() == ["hello to you", expected("hello", "hello to you", "thanks")]


@pytest.mark.parametrize("page", [{"pause_s": 0.1}], indirect=True)
def test_stopping_keeps_what_was_written_and_frees_the_slot(page: Page) -> None:
    page.say("hello")
    standin.wait_until(lambda: len(page.browser.text(".answer .words")) > 3, 10)
    assert not page.idle()
    assert page.browser.run("return document.getElementById('send').disabled")
    page.browser.click("#stop")
    page.wait_for_answers(1)
    standin.wait_until(lambda: not page.server.service.desk.scheduler.active(), 5)
    assert expected("hello").startswith(page.answers()[0])
    assert len(page.answers()[0]) < 60
    assert "You stopped it" in page.browser.text(".ended")
    page.browser.click(".good")
    page.browser.wait(".thanks", "noted as good")


@pytest.mark.parametrize("page", [{"pause_s": 0.05}], indirect=True)
def test_a_new_chat_forgets_the_old_one_also_while_it_is_written(page: Page) -> None:
    page.say("hello")
    standin.wait_until(lambda: len(page.browser.text(".answer .words")) > 3, 10)
    page.browser.click("#fresh")
    page.say("how")
    page.wait_for_answers(1)
    assert page.answers() == [expected("how")]
    assert page.browser.run("return document.querySelectorAll('.turn').length") == 2
    assert not page.server.service.desk.scheduler.active()


def test_markup_stays_text(page: Page) -> None:
    page.say(EVIL)
    page.wait_for_answers(1)
    assert "<img" in page.browser.text(".user .words")
    page.browser.click(".mend")
    page.browser.run(f"document.activeElement.value = {EVIL!r}")
    page.browser.click(".correct .strong")
    page.browser.wait(".answer .words", "<img")
    assert page.browser.run("return document.images.length") == 0


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_overflows(page: Page, width: int) -> None:
    page.browser.size(width, 800)
    page.say("averylongword" * 14)
    page.wait_for_answers(1)
    page.browser.click(".mend")
    assert page.browser.run("return document.documentElement.scrollWidth") <= width
    small = "return [...document.querySelectorAll('button')].filter(b => b.offsetHeight && b.offsetHeight < 40).length"
    assert page.browser.run(small) == 0
    named = "every(it => it.ariaLabel || it.textContent.trim() || it.labels?.length)"
    named = f"return [...document.querySelectorAll('button, textarea')].{named}"
    assert page.browser.run(named)


@pytest.mark.parametrize("page", [{"context": 60}], indirect=True)
def test_a_chat_that_grew_too_long_is_told_in_words(page: Page) -> None:
    page.say("x" * 80)
    page.browser.wait("#trouble", "context has 60 tokens")
    assert page.browser.run("return document.querySelectorAll('.turn').length") == 0
    assert page.browser.run("return document.getElementById('text').value") == "x" * 80
    page.browser.run("document.getElementById('text').value = ''")
    page.say("hello")
    page.wait_for_answers(1)
    page.say("hello")
    page.browser.wait("#trouble", "Start a new one")
    page.browser.click("#fresh")
    page.say("hello")
    page.wait_for_answers(1)


def test_a_mistake_of_the_model_is_told_and_the_words_come_back(page: Page) -> None:
    page.server.stepper.fails = True
    page.say("hello")
    page.browser.wait("#trouble", "The server made a mistake")
    assert page.browser.run("return document.getElementById('text').value") == "hello"
    page.server.stepper.fails = False
    page.browser.press(ENTER)
    page.wait_for_answers(1)
    assert page.answers() == [expected("hello")]


@pytest.mark.parametrize("page", [{"chats": False}], indirect=True)
def test_a_model_without_chats_goes_on_from_a_text(page: Page) -> None:
    assert page.browser.text("h1") == "Write with the model"
    page.say("the par")
    page.wait_for_answers(1)
    assert page.answers() == ["cel is on its way to you.\n"]
    page.say("hello")
    page.wait_for_answers(2)
    assert page.answers()[1].startswith(" there, how are you")
