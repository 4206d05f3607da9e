"""Answers phrased by a generator: the check of what it says, the guard, what a proof and the loop make of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmops.project import open_project
from llmops.stages.need.stage import NeedStage
from llmops.tasks.answering import Answering
from llmops.tasks.answering.config import AnsweringSection
from llmops.tasks.answering.faithful import check, facts
from tests import standin, tiny_answering
from tests.rooms import FakeRoom
from tests.standin import Caller
from tests.standin_writer import SAYING, Parrot, served
from tests.test_answering import Opened, PlainServer, World
from tests.test_loop import llmops
from tests.tiny_assistant import ASKED, CHAT, ENTRY, STRANGE, UNKNOWN, changed, false, generator, make, true, user


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("assistant"))


@pytest.fixture(scope="module")
def bundle(world: World) -> Path:
    return make(world)


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
    "a strange sentence behind the entry": (
        f"{HELP} Our drivers gladly carry everything upstairs.",
        "of a sentence's words",
    ),
    "a short courtesy": (f"{HELP} Happy to help!", None),
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
