"""What is told class by class: figures of an event as metrics and gates, tables with intervals, curves, the picture."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as sk

from llmops.bundle.predictor import Predictor
from llmops.commands.grid import draw
from llmops.core.errors import DataError
from llmops.core.gates import judge
from llmops.core.intervals import f1_interval, told, wilson
from llmops.core.report import Grid, Report
from llmops.stages.deploy.config import DeploySection
from llmops.stages.deploy.prove import BundleServer
from llmops.stages.deploy.stage import DeployStage
from llmops.stages.need.gatecheck import gate_mistakes, refuse_gates_of_two
from llmops.tasks import find, ranking
from llmops.tasks.bootstrap import bootstrap
from llmops.tasks.confusion import by_class, class_table, confusion, picture
from llmops.tasks.event import event_last, event_of
from llmops.tasks.text_classification import metrics
from llmops.tasks.text_classification.asked import ask_all
from llmops.tasks.text_classification.config import TextClassificationSection
from llmops.tasks.text_classification.encoder import TextEncoder
from llmops.tasks.text_classification.parity import Rows
from llmops.tasks.text_classification.served import Served
from tests import standin, tiny, words
from tests.test_deploy import make_job

Floats = np.ndarray[Any, Any]
# --- figures ---------------------------------------------------------------------------------------------------------


def drawn(cells: list[tuple[int, list[int]]], classes: int) -> tuple[Floats, Floats]:
    """(truth, probabilities) of whole numbers, so that there are ties; every class occurs."""
    truth = np.array([*range(classes), *(label for label, _ in cells)])
    raw = np.array([*([1] * classes for _ in range(classes)), *(row for _, row in cells)], float) + 0.5
    return truth, raw / raw.sum(1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 5))
def test_figures_equal_scikit_learns(data: st.DataObject, classes: int) -> None:
    cell = st.tuples(st.integers(0, classes - 1), st.lists(st.integers(0, 4), min_size=classes, max_size=classes))
    truth, probabilities = drawn(data.draw(st.lists(cell, max_size=40)), classes)
    answers = probabilities.argmax(1)
    ours = metrics.figures(truth, probabilities)
    two = classes == 2
    scored = probabilities[:, 1] if two else probabilities
    theirs = {
        "accuracy": sk.accuracy_score(truth, answers),
        "f1_macro": sk.f1_score(truth, answers, average="macro"),
        "f1_weighted": sk.f1_score(truth, answers, average="weighted"),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, answers),
        "roc_auc": sk.roc_auc_score(truth, scored, multi_class="raise" if two else "ovr"),
        "average_precision": sk.average_precision_score(truth, scored),
        **({"recall": sk.recall_score(truth, answers)} if two else {}),
    }
    assert ours == pytest.approx(theirs, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_figures_by_class_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, answers = (np.array(column) for column in zip(*pairs, strict=True))
    theirs = sk.precision_recall_fscore_support(truth, answers, labels=range(4), zero_division=0.0)
    ours = by_class(confusion(truth, answers, 4))
    for name, column in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert ours[name] == pytest.approx(column, abs=1e-9)


def test_rows_outside_and_classes_nobody_knows_are_no_events() -> None:
    truth = np.array([0, 1, 1, -1, 2])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.0, 1.0], [0.1, 0.9]])
    found = metrics.figures(truth, probabilities)
    inside, event = [0, 1, 2, 4], np.array([0, 1, 1, 0])
    assert found["recall"] == 0.5
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(event, probabilities[inside, 1]))
    assert metrics.figures(truth[:0], probabilities[:0])["roc_auc"] == 0.5


# --- the event -------------------------------------------------------------------------------------------------------


def test_the_event_is_the_named_class_else_the_rarer_one() -> None:
    assert event_last({"ham": 30, "spam": 9}, None, "kind") == ["ham", "spam"]
    assert event_last({"ham": 30, "zeal": 90}, None, "kind") == ["zeal", "ham"]
    assert event_last({"ham": 30, "spam": 9}, "ham", "kind") == ["spam", "ham"]
    assert event_of({"0": 5, "1": 5}, None) == "1"
    assert event_last({"c": 1, "a": 2, "b": 3}, None, "kind") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("counts", "said"),
    [({"ham": 3, "eggs": 2}, "no value of `kind`; it has eggs, ham"), ({"spam": 1, "a": 2, "b": 3}, "has 3")],
)
def test_an_event_that_cannot_be_is_refused(counts: dict[str, int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        event_last(counts, "spam", "kind")


def test_the_data_set_has_the_event_last_and_knows_recall_of_two_classes_only(tmp_path: Path) -> None:
    two = [row for row in words.rows(60, 1) if row["label"] != "cold"] + words.rows(3, 2)[:2]
    two = [row for row in two if row["label"] != "cold"]
    splits = {"train": two, "valid": two, "test": []}
    section = TextClassificationSection(metric="recall", positive="hot")
    TextEncoder(section, words.settings()).prepare(splits, tmp_path)
    assert json.loads((tmp_path / "labels.json").read_text()) == ["wood", "hot"]
    with pytest.raises(DataError, match="recall` is of one of two classes") as refused:
        TextEncoder(TextClassificationSection(metric="recall"), words.settings()).prepare(
            {"train": words.rows(9, 1)}, tmp_path
        )
    assert "balanced_accuracy" in refused.value.mistakes[0].do


# --- tables and pictures ---------------------------------------------------------------------------------------------


def test_the_table_tells_the_worst_class_first_with_intervals_and_the_untold_last() -> None:
    counts = np.array([[8, 2, 0, 0], [1, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 5]])
    table = class_table(counts, ["a", "b", "nobody", "c"])
    assert table.columns == ["class", "precision", "recall", "F1", "rows"]
    assert [row[0] for row in table.rows] == ["a", "b", "c", "nobody"]
    assert table.rows[0][1] == told(8 / 9, *wilson(8 / 9, 9), ".3f")
    assert table.rows[0][2] == told(0.8, *wilson(0.8, 10), ".3f")
    assert table.rows[0][3] == told(16 / 19, *f1_interval(8, 9, 10), ".3f")
    assert [row[4] for row in table.rows] == [10, 10, 5, 0]
    assert table.rows[3][1:4] == [None, None, None]


def test_the_interval_of_f1_covers_the_true_one() -> None:
    """Rows that are right, falsely of the class, missed, neither: the true F1 is 2 * 0.2 / (2 * 0.2 + 0.06 + 0.04)."""
    rng, true, inside = np.random.default_rng(0), 0.8, 0
    for _ in range(1000):
        right, false, missed, _ = rng.multinomial(120, [0.2, 0.06, 0.04, 0.7]).tolist()
        low, high = f1_interval(right, right + false, right + missed)
        inside += low <= true <= high
    assert 0.93 <= inside / 1000 <= 0.97
    assert f1_interval(0, 0, 0) == (0.0, 1.0)
    assert f1_interval(0, 3, 4)[0] == 0.0
    assert f1_interval(9, 9, 9)[1] == pytest.approx(1.0)


def test_the_picture_shows_what_was_answered_for_which_and_escapes_names() -> None:
    counts = np.array([[30, 2], [0, 7]])
    [grid] = picture(counts, ["ham & eggs", "<b>spam</b> of a very long name indeed"])
    svg = draw(grid)
    assert svg.count("<title>") == 3  # what is empty is not drawn
    assert "true ham &amp; eggs, answered &lt;b&gt;spam&lt;/b&gt; of a very long name indeed: 2 of 32" in svg
    assert "<b>" not in svg and "<script" not in svg
    assert "#2563a8" in svg  # all seven are right: the full blue
    assert picture(np.eye(51, dtype=int), [str(n) for n in range(51)]) == []
    assert picture(np.zeros((2, 2), int), ["a", "b"]) == []
    fifty = draw(Grid("t", "true", "answered", [f"class {n}" for n in range(50)], np.eye(50, dtype=int).tolist()))
    assert fifty.count("<title>") == 50
    assert ">1</text>" not in fifty  # squares too small for a number
    assert Report.read(json.loads(json.dumps(Report("h", grids=[grid]).plain()))).grids == [grid]
    assert Report.read({key: value for key, value in Report("h").plain().items() if key != "grids"}).grids == []


def test_curves_tell_their_areas_and_keep_the_shape_of_rare_events() -> None:
    rng = np.random.default_rng(5)
    event = np.arange(20_000) < 40
    score = rng.normal(size=20_000) + 4 * event
    roc, trade = ranking.curves(event, score)
    assert roc.title == f"ROC, area {sk.roc_auc_score(event, score):.3f}"
    assert trade.title == f"Precision and recall, area {sk.average_precision_score(event, score):.3f}"
    assert len({recall for recall, _ in trade.lines["model"]}) == 40, "each event is a step of its own"
    assert len(trade.lines["model"]) <= 2 * ranking.POINTS
    one = ranking.curves(event, np.zeros(20_000))  # all tied: no threshold parts them
    assert one[0].lines["model"] == [(0.0, 0.0), (1.0, 1.0)]


def test_intervals_of_an_event_hold_its_figures() -> None:
    rng = np.random.default_rng(2)
    truth = (rng.random(300) < 0.2).astype(np.int64)
    sure = 1 / (1 + np.exp(-(rng.normal(size=300) + 2 * truth - 1)))
    shares = np.stack([1 - sure, sure], 1)
    numbers: dict[str, Any] = Served(["ham", "spam"], truth, shares.argmax(1), shares).numbers("f1_macro")
    assert (numbers["event"], numbers["events"]) == ("spam", int(truth.sum()))
    for name in ("accuracy", "f1_macro", "roc_auc", "average_precision", "recall"):
        assert numbers[f"{name}_low"] < numbers[name] < numbers[f"{name}_high"]
    assert (numbers["recall_low"], numbers["recall_high"]) == wilson(numbers["recall"], int(truth.sum()))
    nothing = Served(["ham", "spam"], truth[:0], truth[:0], shares[:0])
    assert nothing.numbers("roc_auc")["accuracy_high"] == 1.0
    assert (nothing.curves(), nothing.grids()) == ([], [])


# --- through the server ----------------------------------------------------------------------------------------------


SIX = ["card", "lunch", "parcel", "refund", "train", "visit"]


@pytest.mark.parametrize(("truth", "unknown"), [([0] * 5, {"roc_auc", "average_precision", "recall"}),
                                                ([1] * 5, {"roc_auc"}), ([0, 1, 0, 1, 1], set())])  # fmt: skip
def test_rows_that_say_nothing_of_an_event_give_no_figure(truth: list[int], unknown: set[str]) -> None:
    shares = np.random.default_rng(1).dirichlet([1, 1], 5)
    told = Served(["ham", "spam"], np.array(truth), shares.argmax(1), shares).numbers("accuracy")
    assert {name for name in ("roc_auc", "average_precision", "recall", "accuracy") if told[name] is None} == unknown
    assert not [name for name in told for off in unknown if name.startswith(f"{off}_")]
    [verdict] = judge(told, {"roc_auc": {"at_least": 0.5}}) if "roc_auc" in unknown else [None]
    assert verdict is None or (not verdict.passed and "was not measured" in verdict.why)


def test_a_share_of_which_no_row_says_otherwise_has_an_interval_all_the_same() -> None:
    assert bootstrap(lambda rows: 1.0, 38) == pytest.approx(wilson(1.0, 38))
    assert bootstrap(lambda rows: 0.0, 38) == pytest.approx(wilson(0.0, 38))
    assert bootstrap(lambda rows: 0.7, 38) == (0.7, 0.7)


def test_all_probabilities_come_through_the_server(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle", labels=SIX)
    dice = random.Random(1)
    examples = [{"text": " ".join(dice.sample([*SIX, *tiny.FILLER], 9)), "label": dice.choice(SIX)} for _ in range(230)]
    truth = np.array([SIX.index(row["label"]) for row in examples])
    rows, heard = Rows("test", examples, SIX, truth), []
    with BundleServer(bundle, DeploySection(threads=1), tmp_path) as server:
        answers, probabilities = ask_all(server, rows, heard.append)
    assert heard[-1] == 230
    predictor = Predictor.open(bundle, 1)
    for example, row, response in zip(examples, probabilities, answers.responses, strict=True):
        [alone] = predictor.answer_all([predictor.codec.Request(text=example["text"], alternatives=5)])
        said = {alone.best: alone.probability, **{other.label: other.probability for other in alone.alternatives}}
        assert row == pytest.approx([said[label] for label in SIX], abs=1e-5)
        assert len(response["alternatives"]) == 3, "as a client gets it"


def test_a_request_says_how_many_alternatives_it_wants(tmp_path: Path) -> None:
    bundle = standin.make_bundle(tmp_path / "bundle", labels=SIX)
    with standin.serve_bundle(bundle) as (_, port):
        call = standin.Caller(port)

        def named(body: dict[str, Any]) -> list[int]:
            status, said = call("POST", "/v1/predict", body)
            assert status == 200, said
            return [len(one["alternatives"]) for one in said.get("results", [said])]

        assert named({"text": "card"}) == [3]
        assert named({"text": "card", "alternatives": 0}) == [0]
        assert named({"texts": ["card", "visit"], "alternatives": 99}) == [5, 5]
        for body, word in (
            ({"text": "card", "alternatives": -1}, "alternatives"),
            ({"texts": ["card"], "alternatives": "all"}, "texts[0]: alternatives"),
            ({"texts": ["card"], "text": "visit"}, "`texts` stands beside text"),
            ({"texts": ["card"], "colour": 1}, "texts[0]: colour"),
        ):
            status, said = call("POST", "/v1/predict", body)
            assert (status, word in said["error"]["what"]) == (422, True), said


def test_a_champion_with_other_labels_is_compared_by_roc_auc(tmp_path: Path) -> None:
    job = make_job(tmp_path, changed=[])
    job = replace(job, sections={**job.sections, "task": TextClassificationSection(outside="other", metric="roc_auc")})
    champion = standin.make_bundle(tmp_path / "champion", labels=["card", "old label", "parcel"])
    report = DeployStage().run(replace(job, champion=champion))
    lines = [json.loads(line) for line in (job.inputs["dataset"] / "test.jsonl").read_text().splitlines()]
    inside = [line for line in lines if line["label"] != "other"]
    theirs = Predictor.open(champion, 1)
    said = theirs.answer_all([theirs.codec.Request(text=line["text"]) for line in inside])
    named = [{one.best: one.probability, **{a.label: a.probability for a in one.alternatives}} for one in said]
    areas = [
        sk.roc_auc_score([line["label"] == label for line in inside], [row.get(label, 0.0) for row in named])
        for label in standin.LABELS
    ]
    assert report.numbers["champion"] == pytest.approx(np.mean(areas), abs=1e-6)
    ours: Any = report.numbers["roc_auc"]
    assert report.numbers["champion_delta"] == pytest.approx(ours - np.mean(areas), abs=1e-6)
    assert "roc_auc" in report.headline and "roc_auc_low" in report.numbers


def test_gates_on_areas_are_shares() -> None:
    for gate in ("roc_auc", "average_precision", "recall", "coverage"):
        assert "between 0 and 1" in gate_mistakes(gate, {"at_least": 92.0}, "accuracy")[0].what


def test_gates_of_two_classes_are_refused_where_there_are_more() -> None:
    accept = {"accuracy": {"at_least": 0.5}, "brier": {"at_most": 0.2}, "recall": None}
    refuse_gates_of_two(accept, find("tabular").of_two, 2)
    refuse_gates_of_two(accept, find("text-classification").of_two, 3)
    with pytest.raises(DataError, match="brier is a figure of two classes, and the rows have 3"):
        refuse_gates_of_two(accept, find("tabular").of_two, 3)


def test_several_labels_have_no_one_event() -> None:
    with pytest.raises(ValidationError, match="each label is an event of its own"):
        TextClassificationSection(labels="many", positive="spam")
