"""Question answering: rows and documents, BM25, ranks, training, the codec, calibration, proof and harvest."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops.bundle import format as bundle_format
from llmops.bundle.runtimes import open_runtime
from llmops.core.errors import DataError
from llmops.core.protocols import Judged, Row
from llmops.engine.ragged import Ragged
from llmops.fields.cleaning import clean
from llmops.fields.config import CleanStep
from llmops.fields.hashing import normalise
from llmops.tasks.answering import Answering
from llmops.tasks.answering.assess import abstention
from llmops.tasks.answering.calibration import best_scores, choose_threshold, fit_confidence
from llmops.tasks.answering.codec import AnsweringCodec
from llmops.tasks.answering.config import AnsweringSection, AnsweringTrainSection, PhraseSection
from llmops.tasks.answering.entries import collect, entry, read_entries, write_entries
from llmops.tasks.answering.lexical import Lexical, words
from llmops.tasks.answering.messages import AnsweringRequest
from llmops.tasks.answering.passages import read_documents, split_document
from llmops.tasks.answering.phrasing import Phraser
from llmops.tasks.answering.ranking import best_first, blend, figures, ranks
from llmops.tasks.answering.truth import right_entries, truth
from tests import tiny_answering as tiny
from tests.rooms import FORESEEN, FakeRoom, places_in

TASK = Answering()
ROOT = Path(__file__).parent.parent


def settings(model: Path, **changes: object) -> AnsweringTrainSection:
    base = {"method": "full", "epochs": 6, "learning_rate": 3e-3, "batch_size": 16, "checkpoint_every_s": 60}
    return AnsweringTrainSection.model_validate({"model": str(model), **base, **changes})


class World:
    """A tiny encoder, its data set and a model trained on it."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        documents = str(tiny.write_pages(folder / "pages"))
        self.section = AnsweringSection(source="source", documents=documents, max_tokens=32)
        self.settings = settings(tiny.encoder(folder / "encoder"), **changes)
        self.dataset = tiny.dataset(folder / "dataset", TASK, self.section, self.settings)
        self.learner: Any = TASK.learner(self.section, self.settings, 1)
        room = FakeRoom(folder / "room")
        self.told = self.learner.train(self.dataset, room.work, room)

    def fields(self, **calibrated: float) -> dict[str, Any]:
        """bundle.json's, as compress writes them."""
        about = json.loads((self.dataset / "dataset.json").read_text())
        return {
            "task": TASK.name, "task_version": TASK.version, "runtime": TASK.runtime, "cleaning": about["cleaning"],
            "settings": {**TASK.settings(self.section, self.dataset), **calibrated},
        }  # fmt: skip

    def bundle(self, folder: Path, **calibrated: float) -> Opened:
        """A float32 bundle with its index."""
        self.learner.export(folder)
        bundle_format.write(folder, self.fields(**calibrated))
        opened = Opened(folder)
        TASK.complete(self.section, self.dataset, opened, folder)
        bundle_format.write(folder, self.fields(**calibrated))
        return Opened(folder)


class Opened:
    """What protocols.Opened asks for, of a task that the table of tasks need not know."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runtime = folder, open_runtime(folder, 1)
        self.codec: Any = TASK.codec(folder)
        self.settings = bundle_format.read(folder).settings

    def answer(self, *requests: AnsweringRequest) -> list[Any]:
        return list(self.codec.decode(self.runtime.run(self.codec.encode(requests)), requests))


class PlainServer:
    """Answers like the real server, in this process."""

    host, port = "127.0.0.1", 0

    def __init__(self, opened: Opened) -> None:
        self.opened, self.lock = opened, threading.Lock()

    def post(self, path: str, body: Any) -> Any:
        assert path == "/v1/predict"
        with self.lock:
            (said,) = self.opened.answer(AnsweringRequest.model_validate(body))
        return {"id": "x", "version": 1, **said.plain()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("answering"))


@pytest.fixture(scope="module")
def opened(world: World) -> Opened:
    return world.bundle(world.folder / "bundle", slope=10.0, intercept=-5.0, threshold=0.3)


def test_examples_come_from_rows_or_the_row_is_told_to_be_bad() -> None:
    section = AnsweringSection(question="q", answer="a", source="page")
    assert TASK.columns(section) == ("q", "a", "page")
    assert TASK.columns(AnsweringSection()) == ("question", "answer")
    row = {"q": " who? ", "a": "Line one.\nLine two.", "page": ""}
    assert TASK.example(section, row) == {"text": "who?", "answer": "Line one.\nLine two.", "source": None}
    assert TASK.example(section, {"q": "who?", "page": "x"}) == "no column 'a'"
    assert TASK.example(section, {"q": None, "a": "b", "page": "x"}) == "empty q"
    assert "one answer a row" in str(TASK.example(section, {"q": "who?", "a": ["b", "c"], "page": None}))


def test_questions_are_cleaned_and_answers_stay_as_published() -> None:
    step = CleanStep(redact=["email"])
    row = {"text": "write  me: a@b.example", "answer": "Write to help@shop.example.\nWe answer.", "source": None}
    cleaned = TASK.cleaned(row, lambda text: clean(text, step))
    assert "a@b" not in cleaned["text"]
    assert cleaned["answer"] == row["answer"]


def test_documents_become_passages_with_their_headings() -> None:
    text = "# Returns\n\nBring it back.\nWithin 30 days.\n\n" + "One two three. " * 8 + "\n\n## Costs #\nFree."
    found = list(split_document(text, 10))
    assert found[0] == ("Returns", "Bring it back. Within 30 days.")
    assert found[-1] == ("Costs", "Free.")
    assert all(len(passage.split()) <= 10 for _, passage in found)
    assert " ".join(passage for _, passage in found).split().count("three.") == 8, "nothing is lost"
    assert [passage for _, passage in split_document("word " * 25, 10)][-1] == "word word word word word"
    assert list(split_document("# Only a heading", 10)) == []


def test_documents_are_read_from_folders_and_files(tmp_path: Path) -> None:
    folder = tiny.write_pages(tmp_path / "pages")
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0")
    found = read_documents(folder, 50)
    assert [one.source for one in found] == ["shop.md # Opening hours", "shop.md # Parking"]
    assert found[0].text.startswith("Opening hours\n")
    assert read_documents(folder / "shop.md", 50) == found
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="without text files"):
        read_documents(empty, 50)
    (folder / "packed.txt").write_bytes(b"PK\x03\x04\0\0")
    with pytest.raises(DataError, match="not a text file"):
        read_documents(folder, 50)


def test_entries_are_answers_and_passages_each_text_once(tmp_path: Path) -> None:
    splits: dict[str, list[Row]] = {
        "train": [{"text": "a?", "answer": "Yes.", "source": "p"}, {"text": "b?", "answer": "yes", "source": "q"}],
        "test": [{"text": "c?", "answer": "No\u2028way.", "source": None}],
    }
    found = collect(splits, [entry("no way", "doc"), entry("Maybe.", "doc")])
    assert [one.text for one in found] == ["Yes.", "No\u2028way.", "Maybe."]
    write_entries(tmp_path / "entries.jsonl", found)
    assert read_entries(tmp_path / "entries.jsonl") == found
    assert found[0].id == entry("Yes.", "elsewhere").id, "an id names the text"
    (tmp_path / "entries.jsonl").write_text('{"id": 1')
    with pytest.raises(DataError, match="cannot be read"):
        read_entries(tmp_path / "entries.jsonl")


def test_rows_with_one_question_share_their_right_answers() -> None:
    rows = [{"text": "When?", "answer": "Now."}, {"text": "when", "answer": "Later."}, {"text": "Who", "answer": "Me."}]
    found = collect({"train": rows}, [])
    assert right_entries(rows, found) == [frozenset({0, 1}), frozenset({0, 1}), frozenset({2})]
    assert right_entries([{"text": "x", "answer": "unknown"}], found) == [frozenset()]


def test_bm25_is_that_of_a_known_library() -> None:
    import bm25s

    texts = [one["answer"] for one in tiny.examples(8, 1)] + ["the the the parcel", "a"]
    questions = [one["text"] for one in tiny.examples(20, 2)] + ["the parcel the", "nothing known"]
    theirs = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    theirs.index([words(text) for text in texts], show_progress=False)
    ours = Lexical(texts)
    for question in questions:
        known = [word for word in words(question) if ours.spread(word)]
        expected = theirs.get_scores(known) if known else np.zeros(len(texts))
        assert ours.scores(question) == pytest.approx(expected, abs=1e-5)


def test_bm25_shares_lie_between_0_and_1_and_strange_words_lower_them() -> None:
    lexical = Lexical(["return the parcel", "pay the bill"])
    known, strange, none = lexical.shares(["return parcel", "return parcel zebra", "zebra"])
    assert known.argmax() == 0
    assert 1 > known[0] > strange[0] > 0
    assert not none.any()
    assert words("Wo ist's? 房间很干净 ok") == ["wo", "ist", "s", "房间", "间很", "很干", "干净", "ok"]


def test_ranks_and_figures() -> None:
    scores = np.array([[0.9, 0.5, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 1.0]])
    right = [frozenset({2}), frozenset({1, 3}), frozenset({3, 0}), frozenset[int]()]
    found = ranks(scores, right)
    assert found.tolist() == [3, 2, 1, 0], "on a tie the lower number comes first"
    assert figures(found) == {"recall_at_1": 0.25, "recall_at_5": 0.75, "mrr": pytest.approx((1 / 3 + 1 / 2 + 1) / 4)}
    assert figures(np.array([11]))["mrr"] == 0.0, "ranks past 10 count nothing"
    assert figures(found[:0])["mrr"] == 0.0
    assert best_first(scores[1], 2).tolist() == [0, 1]
    assert best_first(scores[2], 9).tolist() == [3, 2, 1, 0]
    assert blend(scores, 1 - scores, 0.5) == pytest.approx(np.full(scores.shape, 0.5))


@pytest.mark.parametrize("seed", range(3))
def test_ranks_agree_with_the_order_that_is_served(seed: int) -> None:
    chance = np.random.Generator(np.random.PCG64(seed))
    scores = chance.integers(0, 4, (20, 15)).astype(np.float32)
    right = [frozenset(map(int, chance.choice(15, 2, replace=False))) for _ in range(20)]
    served = [
        1 + min(best_first(row, 15).tolist().index(n) for n in known) for row, known in zip(scores, right, strict=True)
    ]
    assert ranks(scores, right).tolist() == served


def test_the_encoder_writes_an_index_without_questions(world: World) -> None:
    entries = read_entries(world.dataset / "entries.jsonl")
    assert len(entries) == len(tiny.TOPICS) + 2
    questions = {
        normalise(row["text"]) for split in ("train", "valid", "test") for row in truth(world.dataset, split).rows
    }
    assert not questions & {normalise(one.text) for one in entries}
    data = Ragged.read(world.dataset / "entries.safetensors")
    assert data.labels.tolist() == list(range(len(entries)))
    assert data.lengths.max() <= 32
    test = truth(world.dataset, "test")
    assert [min(right) for right in test.right] == Ragged.read(world.dataset / "test.safetensors").labels.tolist()


def test_an_index_of_one_entry_is_refused(tmp_path: Path) -> None:
    rows = [{"text": "a?", "answer": "Yes."}, {"text": "b?", "answer": "yes"}]
    train = settings(tiny.encoder(tmp_path / "encoder"))
    with pytest.raises(DataError, match="two different answers"):
        TASK.encoder(AnsweringSection(), train).prepare({"train": rows, "valid": []}, tmp_path / "data")


def test_training_beats_bm25_and_the_model_comes_back_from_disk(world: World, tmp_path: Path) -> None:
    simple = TASK.baseline(world.section, world.dataset)
    similarity = world.learner.predict(world.dataset, "test")
    assert similarity.shape == (24, len(tiny.TOPICS) + 2)
    assert similarity.dtype == np.float32
    found = TASK.trained_quality(world.section, world.dataset, "test", similarity)
    assert simple["test"] is not None and found["mrr"] > simple["test"]
    assert found["recall_at_1"] > 0.8
    assert world.told["metrics"]["mrr"] == max(row["mrr"] for row in world.told["history"])
    world.learner.save(tmp_path / "model")
    again: Any = TASK.learner(world.section, settings(Path("elsewhere")), 9)
    again.load(tmp_path / "model")
    assert np.array_equal(again.predict(world.dataset, "test"), similarity)
    assert again.settings == world.settings
    (tmp_path / "model" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="cannot be read"):
        again.load(tmp_path / "model")


@pytest.mark.parametrize("changes", [{"method": "lora"}, {"method": "frozen", "head_learning_rate": 3e-2}], ids=str)
def test_other_methods_learn_too(tmp_path: Path, changes: dict[str, object]) -> None:
    world = World(tmp_path, **changes, epochs=8)
    assert world.told["history"][-1]["loss"] < 0.9 * world.told["history"][0]["loss"]
    assert not any("lora" in name for name in world.learner.trained().state_dict())


@pytest.mark.parametrize("method", ["full", "frozen"])
def test_a_broken_off_training_carries_on_to_the_same_weights(world: World, tmp_path: Path, method: str) -> None:
    section = world.settings.model_copy(update={"method": method, "epochs": 3, "checkpoint_every_s": 0})
    answers = []
    for broken in (False, True):
        room = FakeRoom(tmp_path / str(broken))
        if broken:
            with pytest.raises(KeyboardInterrupt):
                TASK.learner(world.section, section, 1).train(world.dataset, room.work, room, break_off)
        learner = TASK.learner(world.section, section, 1)
        learner.train(world.dataset, room.work, room)
        assert any("carrying on" in line for line in room.said) == broken
        answers.append(learner.predict(world.dataset, "test"))
    assert np.array_equal(*answers)


def break_off(epoch: int, metrics: dict[str, float]) -> bool:
    """A listener that ends the process, as far as the engine can see."""
    if epoch == 2:
        raise KeyboardInterrupt
    return False


def test_answers_that_are_right_are_never_wrong_ones() -> None:
    import torch

    from llmops.engine.ragged import ragged
    from llmops.tasks.answering.network import blank_network
    from llmops.tasks.answering.problem import PairProblem, Pairs

    config = {
        "model_type": "bert", "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8,
    }  # fmt: skip
    questions = ragged([[3], [4], [3], [5]], [0, 0, 1, 2])
    right = [frozenset({0, 1}), frozenset({0}), frozenset({0, 1}), frozenset({2})]
    pairs = Pairs(
        questions, questions, ragged([[6], [7], [8]], [0, 1, 2]), right, right, np.zeros((4, 0), np.int64),
        np.zeros((4, 3), np.float32),
    )  # fmt: skip
    problem = PairProblem(
        blank_network(config, "mean"), pairs, settings(Path("none"), method="lora"), "mrr", 0.0, 0, torch.device("cpu")
    )
    rows, columns = np.arange(4), np.array([0, 1, 2])
    wanted = questions.labels
    assert problem.also_right(rows, columns, wanted).tolist() == [
        [False, True, False], [False, False, False], [True, False, False], [False, False, False],
    ]  # fmt: skip
    assert problem.asked_too(rows, wanted).astype(int).tolist() == [
        [0, 1, 1, 0],
        [1, 0, 1, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert torch.isfinite(problem.loss(rows))


def test_hard_negatives_are_wrong_and_look_right(world: World) -> None:
    from llmops.tasks.answering.negatives import hard_negatives

    train = truth(world.dataset, "train")
    found = hard_negatives(train, 2)
    assert found.shape == (len(train.rows), 2)
    known = set().union(*train.right)
    for row, right in enumerate(train.right):
        assert not set(found[row].tolist()) & right
        assert set(found[row].tolist()) <= known, "documents have no questions and wait for none"
        others = sorted(known - right - set(found[row].tolist()))
        assert train.shares[row, found[row]].min() >= train.shares[row, others].max()
    assert hard_negatives(train, 0).shape == (len(train.rows), 0)
    many = hard_negatives(train, len(known) + 3)
    assert all(int(row[-1]) in right for row, right in zip(many, train.right, strict=True)), "places are filled"


@pytest.mark.parametrize("method", ["full", "frozen"])
def test_a_probe_foresees_the_training(world: World, tmp_path: Path, method: str) -> None:
    section = world.settings.model_copy(update={"method": method})
    told = TASK.learner(world.section, section, 1).probe(world.dataset, 0.2, FakeRoom(tmp_path))  # type: ignore[attr-defined]
    assert set(told) == FORESEEN
    assert 0 < told["epoch_s"] < told["train_s"] < told["train_s_upper"]
    assert told["parameters"] == world.told["parameters"]


def test_the_export_says_what_the_model_says(world: World, opened: Opened) -> None:
    from llmops.tasks.answering.measure import vectors_of

    found = truth(world.dataset, "test")
    asked = vectors_of(opened, found.questions)
    assert np.linalg.norm(asked, axis=1) == pytest.approx(np.ones(len(asked)), abs=1e-5)
    served = opened.codec.index.similarity(asked)
    assert np.abs(served - world.learner.predict(world.dataset, "test")).max() < 1e-4


def test_the_codec_answers_one_like_many(world: World, opened: Opened) -> None:
    questions = truth(world.dataset, "test").questions[:9]
    requests = [AnsweringRequest(question=question, top=1 + place) for place, question in enumerate(questions)]
    many = opened.answer(*requests)
    single = [opened.answer(request)[0] for request in requests]
    assert [one.entry for one in many] == [one.entry for one in single]
    assert [one.score for one in many] == pytest.approx([one.score for one in single], abs=1e-5)
    assert [len(one.alternatives) for one in many] == list(range(9))
    for one in many:
        scores = [one.score, *(other.score for other in one.alternatives)]
        assert scores == sorted(scores, reverse=True)
        assert (one.best, one.probability) == (one.entry, one.confidence), "what the traffic log keeps"
        assert (one.answer is None) == one.abstained == (one.confidence < 0.3)
    assert AnsweringRequest(question="x").text == "x"
    assert set(AnsweringRequest(question="x").plain()) == {"question", "top", "phrase"}


def test_a_withheld_answer_tells_what_it_would_have_been_and_why(opened: Opened) -> None:
    codec = AnsweringCodec(opened.folder)
    codec.settings = codec.settings.model_copy(update={"threshold": 0.999999})
    request = AnsweringRequest(question="zebra", phrase=False)
    [said] = [one.plain() for one in codec.decode(opened.runtime.run(codec.encode([request])), [request])]
    words = {entry.id: entry.text for entry in codec.index.entries}
    assert (said["answer"], said["abstained"]) == (None, True)
    assert said["withheld"]["answer"] == words[said["entry"]]
    assert said["withheld"]["probability"] == said["confidence"]
    assert said["withheld"]["why"].startswith("less sure (")
    assert opened.answer(AnsweringRequest(question="parcel courier van", phrase=False))[0].plain()["withheld"] is None


def test_bad_requests_are_refused() -> None:
    for body in ({"question": "  "}, {"question": 3}, {"question": "x", "top": 0}, {"question": "x", "top": 11}):
        with pytest.raises(ValueError):
            AnsweringRequest.model_validate(body)


def test_a_damaged_index_is_told(opened: Opened, tmp_path: Path) -> None:
    for name in ("bundle", "other"):
        shutil.copytree(opened.folder, tmp_path / name)
    (tmp_path / "bundle" / "vectors.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="index cannot be read"):
        AnsweringCodec(tmp_path / "bundle")
    lines = (tmp_path / "other" / "entries.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "other" / "entries.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match="9 entries and 10 vectors"):
        AnsweringCodec(tmp_path / "other")


def test_a_candidate_is_measured_calibrated_and_scored(world: World, opened: Opened) -> None:
    trained = world.learner.predict(world.dataset, "valid")
    found = TASK.measure(world.section, world.dataset, opened, trained)
    assert found.agreement == 1.0
    assert found.quality == TASK.trained_quality(world.section, world.dataset, "valid", trained)["mrr"]
    assert {"latency_p50_ms", "latency_p95_ms", "rows_per_s", "valid_recall_at_5"} <= set(found.figures)
    fitted, does = TASK.calibrate(world.section, world.dataset, found)
    assert set(fitted) == {"slope", "intercept", "threshold"}
    assert 0 < fitted["threshold"] < 1
    assert does["answered_accuracy"] > 0.9
    assert does["unanswerable_recall"] > 0.5
    assert TASK.score(world.section, world.dataset, "valid", opened) == pytest.approx(found.quality)


def test_confidence_and_threshold_part_right_from_wrong() -> None:
    scores = np.array([[0.9, 0.3, 0.1], [0.2, 0.8, 0.4], [0.3, 0.2, 0.1]])
    best, hit, without = best_scores(scores, [frozenset({0}), frozenset({1}), frozenset({2})])
    assert best == pytest.approx([0.9, 0.8, 0.3])
    assert hit.tolist() == [True, True, False]
    assert without == pytest.approx([0.3, 0.4, 0.3])
    chance = np.random.Generator(np.random.PCG64(1))
    x = chance.normal(0.5, 0.2, 5000)
    y = chance.random(5000) < 1 / (1 + np.exp(-(8 * x - 4)))
    assert fit_confidence(x, y) == pytest.approx((8, -4), rel=0.1)
    slope, _ = fit_confidence(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert np.isfinite(slope) and slope > 0
    assert fit_confidence(x, np.ones(5000, bool)) == (1.0, 0.0)
    assert 0.4 < choose_threshold(np.array([0.7, 0.9, 0.3]), np.array([0.1, 0.2, 0.4])) < 0.7
    assert choose_threshold(np.array([]), np.array([0.1])) == 0.0
    told = abstention(np.array([True, True, False]), hit, np.array([True, False, True]))
    assert told == {
        "answered_share": pytest.approx(2 / 3),
        "answered_accuracy": 1.0,
        "unanswerable_recall": pytest.approx(2 / 3),
    }


def test_a_proof_tells_what_the_server_said(world: World, opened: Opened, tmp_path: Path) -> None:
    room = FakeRoom(tmp_path)
    proof = TASK.prove(world.section, world.dataset, opened.folder, PlainServer(opened), world.learner, room)
    numbers: dict[str, Any] = proof.numbers
    found = TASK.trained_quality(world.section, world.dataset, "test", world.learner.predict(world.dataset, "test"))
    assert {name: numbers[name] for name in found} == pytest.approx(found)
    gates = set(TASK.accept_section.model_fields) - {"champion", "above_baseline", "size_mb"}
    assert gates - TASK.unmeasured(world.section) <= set(numbers)
    assert numbers["parity"] == 1.0
    assert numbers["score_difference"] < 1e-4
    assert numbers["recall_at_1_low"] <= numbers["recall_at_1"] <= numbers["recall_at_1_high"] + 1e-9
    assert (proof.split, len(proof.lines)) == ("test", 24)
    assert proof.lines[0]["best"] in {one.id for one in opened.codec.index.entries}
    assert room.bars[0].updates[-1][0] == 24


def judged(**changes: Any) -> Judged:
    response = {
        "answer": "By van.", "entry": "e1", "source": "p1", "abstained": False,
        "alternatives": [{"entry": "e2", "text": "By post.", "source": "p2", "score": 0.2}],
    }  # fmt: skip
    base = {
        "id": "r", "at": 1.0, "version": 1, "label": "e1", "abstained": False, "source": "http",
        "rating": None, "correction": None, "said_at": 2.0, "request": {"question": "how?"}, "response": response,
    }  # fmt: skip
    return Judged(**{**base, **changes})


def test_corrections_and_praise_become_rows() -> None:
    def row(**changes: Any) -> tuple[str, str | None] | None:
        found = TASK.harvested(AnsweringSection(), judged(**changes))
        return None if found is None else (found["answer"], found["source"])

    assert row(correction=" By bike. ") == ("By bike.", None)
    assert row(correction="e2") == ("By post.", "p2"), "an entry's id stands for its words"
    assert row(correction="By post.") == ("By post.", "p2")
    assert row(rating=1) == ("By van.", "p1")
    assert row(rating=-1) is None
    assert row() is None
    assert row(rating=1, abstained=True) is None
    kept_back = {"answer": None, "withheld": {"answer": "By van."}, "entry": "e1", "source": "p1"}
    assert row(correction="By van.", abstained=True, response=kept_back) == ("By van.", "p1")
    assert row(correction="e1", abstained=True, response=kept_back) == ("By van.", "p1")
    assert row(rating=1, abstained=True, response=kept_back) is None, "liked for its silence"
    assert row(rating=1, response=None) is None
    assert row(correction="By bike.", request=None) is None
    assert row(correction="By bike.", response=None) == ("By bike.", None)
    made = TASK.harvested(AnsweringSection(), judged(correction="By bike."))
    assert made is not None and made["text"] == "how?" and made["at"] == 2.0 and made["request_id"] == "r"


class Generator(BaseHTTPRequestHandler):
    """An OpenAI-compatible address that says what it was asked, and refuses some."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = body["messages"][-1]["content"]
        said = {"choices": [{"message": {"content": f" {self.headers['Authorization']}: {asked[:13]!r} "}}]}
        data = json.dumps(said).encode()
        self.send_response(500 if "refuse" in asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def generator() -> Any:
    server = HTTPServer(("127.0.0.1", 0), Generator)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_generator_phrases_and_its_failures_cost_no_answer(generator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cret")
    phraser = Phraser(PhraseSection(url=generator, model="m", key="SHOP_KEY"))
    said = phraser.phrase_all([("how?", "By van."), ("refuse", "By van."), ("when?", "Soon.")])
    phraser.client.close()
    words = [one and one.words for one in said]
    assert words == ["Bearer s3cret: 'Entry:\\nBy van'", None, "Bearer s3cret: 'Entry:\\nSoon.\\n'"]
    assert "s3cret" not in PhraseSection(url=generator, model="m", key="SHOP_KEY").model_dump_json()
    with pytest.raises(ValueError):
        PhraseSection(url=generator, model="m", key="sk-123 456")


def test_only_answers_that_may_be_phrased_are(world: World, opened: Opened, generator: str, tmp_path: Path) -> None:
    shutil.copytree(opened.folder, tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    manifest["settings"]["phrase"] = {"url": generator, "model": "m", "guard": False}
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(manifest))
    other = Opened(tmp_path / "bundle")
    question = truth(world.dataset, "test").questions[0]
    phrased, plain, lost = other.answer(
        AnsweringRequest(question=question), AnsweringRequest(question=question, phrase=False),
        AnsweringRequest(question="zebra"),
    )  # fmt: skip
    other.codec.phraser.client.close()
    assert phrased.phrased and phrased.answer == plain.answer, "the entry's own words stay beside the wording"
    assert plain.phrased is None
    assert (lost.phrased is None) == lost.abstained


def test_documents_are_found_beside_the_config(tmp_path: Path) -> None:
    section = AnsweringSection(documents="pages")
    assert AnsweringSection().files() == []
    located = section.located(places_in(tmp_path))
    assert located.files() == [(tmp_path / "pages").resolve()]
    train = TASK.located(AnsweringTrainSection(model="./encoder"), places_in(tmp_path))
    said = TASK.check(located, train)
    assert [mistake.where for mistake in said] == ["train.model", "task.documents"]
    tiny.write_pages(tmp_path / "pages")
    tiny.encoder(tmp_path / "encoder")
    assert TASK.check(located, train) == []


def test_the_task_and_the_codec_load_no_torch() -> None:
    code = "import sys; from llmops.tasks.answering import Answering; import llmops.tasks.answering.codec\n"
    code += "import llmops.tasks.answering.encoder, llmops.tasks.answering.proof, llmops.tasks.answering.measure\n"
    code += "assert not {'torch', 'transformers', 'sklearn', 'scipy'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_shipped_faq_is_large_and_its_held_out_questions_are_new() -> None:
    def read(name: str) -> list[dict[str, str]]:
        with (ROOT / "data" / "faq" / name).open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    rows, held_out = read("faq.csv"), read("held_out.csv")
    per_entry = Counter(row["answer"] for row in rows)
    assert len(per_entry) >= 60
    assert min(per_entry.values()) >= 5
    assert {row["answer"] for row in held_out} == set(per_entry)
    asked = [normalise(row["question"]) for row in [*rows, *held_out]]
    assert len(set(asked)) == len(asked)
