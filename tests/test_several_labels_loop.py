"""Several labels: what the traffic tells of them, and the whole loop from init to a second turn."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from llmops.bundle.predictor import Predictor
from llmops.core.errors import DataError
from llmops.core.protocols import Judged
from llmops.fields.labelsets import labels_of
from llmops.fields.permutation import share_shift
from llmops.records.traffic import TrafficLog, new_id
from llmops.registry import store
from llmops.stages.feedback import labelfigures
from llmops.stages.feedback.imports import import_file
from llmops.tasks.text_classification.config import TextClassificationSection
from tests import tiny_labels
from tests.test_feedback import FILLER, Shop, write
from tests.test_loop import LLMOPS, llmops
from tests.test_several_labels_page import bundle

LABELS = ["card", "parcel", "refund"]
Pair = tuple[str, list[str]]


def sentences(count: int, seed: int, most: int = 2, always: str | None = None) -> list[Pair]:
    """Distinct texts that name their labels; each has up to `most`, `always` among them."""
    dice = random.Random(seed)
    made: dict[str, list[str]] = {}
    while len(made) < count:
        labels = {*dice.sample(LABELS, dice.randrange(most + 1)), *([always] if always else [])}
        picked = [*labels, *dice.sample(FILLER, 5)]
        dice.shuffle(picked)
        made[" ".join(picked)] = sorted(labels)
    return list(made.items())


class Desk(Shop):
    """A project with a champion that gives several labels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pairs = sentences(900, 1)
        self.section = TextClassificationSection(labels="many", separator=";")
        self.write_dataset(self.pairs[:300], self.pairs[300:450], self.pairs[450:600])

    @property
    def sections(self) -> dict[str, Any]:
        return {**super().sections, "task": self.section}

    def promote(self, harvest_rows: int = 0) -> int:
        self.bundle = bundle(self.root / f"bundle{harvest_rows}", LABELS)
        manifest = json.loads((self.bundle / "bundle.json").read_text())
        manifest["lineage"]["harvest_rows"] = harvest_rows
        (self.bundle / "bundle.json").write_text(json.dumps(manifest))
        return store.promote(self.places.registry, self.bundle)

    def ask(self, pairs: Sequence[Pair], corrected: int = 0) -> list[str]:
        """Log what the champion answers, as its server would; the first ones get a correction. Returns the ids."""
        predictor = Predictor.open(self.bundle, 1)
        asked = [predictor.codec.request({"text": text}) for text, _ in pairs]
        keys = []
        with TrafficLog(self.places.traffic / "traffic.db") as log:
            answers = zip(asked, predictor.answer_all(asked, 32), pairs, strict=True)
            for index, (request, answer, (_, labels)) in enumerate(answers):
                keys.append(new_id())
                log.record(
                    keys[-1], version=1, request=request.plain(), response=answer.plain(), label=answer.best,
                    probability=answer.probability, abstained=answer.abstained, latency_ms=1.0,
                )  # fmt: skip
                if index < corrected:
                    log.feedback(keys[-1], rating=-1, correction=json.dumps(labels))
        return keys


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, {})


def test_quiet_traffic_of_several_labels_is_not_due(desk: Desk) -> None:
    desk.promote()
    desk.ask(desk.pairs[600:900])
    report, verdict = desk.run()
    assert verdict["due"] is False, verdict
    assert set(verdict["drift"]["tests"]) == {"labels", "confidence", "unknown words", "texts"}
    assert "abstained_share" not in report.numbers, "such a model never abstains"
    assert table(report, "Requests a day").columns == ["day (UTC)", "requests"]


def table(report: Any, title: str) -> Any:
    return next(one for one in report.tables if one.title.startswith(title))


def test_a_label_that_is_given_more_often_is_drift(desk: Desk) -> None:
    desk.promote()
    desk.ask(sentences(300, 7, most=1, always="refund"))
    report, verdict = desk.run()
    labels = verdict["drift"]["tests"]["labels"]
    assert labels["fires"] is True
    assert 0.5 < labels["effect"] < 0.75, "a third of the held-out rows are about a refund, now all are"
    moved = {row[0]: row[1:] for row in table(report, "Answers that moved the most").rows}
    assert moved["refund"][1] == "100.0%"
    assert moved["(no label)"][1] == "0.0%"


@pytest.mark.parametrize(("share", "fires"), [(0.2, False), (0.5, True)])
def test_the_share_of_a_label_is_tested(share: float, fires: bool) -> None:
    rng = np.random.default_rng(3)
    names = [f"label{n}" for n in range(12)]

    def rows(first: float) -> list[tuple[str, ...]]:
        return [tuple(name for n, name in enumerate(names) if rng.random() < (0.2 if n else first)) for _ in range(400)]

    found = share_shift(rows(0.2), rows(share), rng)
    assert (found.p < 0.01) is fires
    assert found.effect == pytest.approx(max(0.0, share - 0.2), abs=0.08)


def said(given: list[str], correction: list[str] | None, rating: int | None = None) -> Judged:
    right = None if correction is None else json.dumps(correction)
    return Judged("x", 0.0, 1, json.dumps(given), False, "http", rating, right, 1.0)


def test_figures_of_what_users_said_are_scikit_learns() -> None:
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    judged = [
        said(["a", "b"], ["a"]), said(["a"], None, rating=1), said([], ["b", "c"], rating=-1), said(["c"], ["c"]),
        said(["b"], ["c", "b"]), said(["a"], None, rating=-1), said([], [], rating=1),
    ]  # fmt: skip
    found = labelfigures.figures(judged)
    assert found["subset_accuracy"].value == pytest.approx(3 / 7)
    told = [row for row in judged if labelfigures.truth_of(row) is not None]
    sets = MultiLabelBinarizer(classes=["a", "b", "c"]).fit(None)
    truth = sets.transform([labelfigures.truth_of(row) for row in told])
    answers = sets.transform([labels_of(row.label) for row in told])
    f1 = found["f1_micro"]
    assert f1.value == pytest.approx(f1_score(truth, answers, average="micro", zero_division=0))
    assert f1.low is not None and f1.high is not None and f1.low < f1.value < f1.high
    assert labelfigures.corrected(judged) == [("b", 1, 1), ("c", 2, 0)]
    assert labelfigures.figures([]) == {}


def test_the_interval_of_f1_holds_the_truth() -> None:
    """Of draws from one world, nearly all intervals hold its F1."""
    rng = np.random.default_rng(5)
    held, names = 0, ["a", "b", "c", "d"]
    for _ in range(200):
        rows = []
        for _ in range(150):
            truth = [name for name in names if rng.random() < 0.4]
            given = [name for name in names if rng.random() < (0.8 if name in truth else 0.1)]
            rows.append(said(given, truth))
        found = labelfigures.figures(rows)["f1_micro"]
        # hits 0.32 a label, given 0.38, true 0.4
        held += (found.low or 0) <= 2 * 0.32 / (0.38 + 0.4) <= (found.high or 1)
    assert 183 <= held <= 199


def test_corrections_are_judged_and_become_rows_with_lists(desk: Desk) -> None:
    desk.settings = {"retrain_when": {"corrections": 20, "drift": False}}
    desk.promote()
    wrong = [(text, sorted({*labels, "locker"})) for text, labels in desk.pairs[600:620]]
    of_test = [(desk.pairs[455][0], ["card"])]
    desk.ask([*wrong, *of_test], corrected=21)
    report, verdict = desk.run()
    assert (verdict["due"], verdict["reasons"]) == (True, ["20 new corrections (corrections: 20)"])
    assert {row["text"]: row["label"] for row in desk.harvested()} == dict(wrong)
    numbers = report.numbers
    assert (numbers["harvest_in_test"], numbers["new_labels"], numbers["corrections"]) == (1, 1, 21)
    assert float(numbers["estimated_subset_accuracy"] or 0) <= 1 / 21
    assert 0.3 < float(numbers["estimated_f1_micro"] or 0) < 0.8
    assert table(report, "Labels that users changed").rows[0] == ["locker", 20, 0]
    assert table(report, "Labels that the data set doesn't know").rows == [["locker", 20]]
    assert ["card", "card, locker", 5] in table(report, "Answers that users corrected").rows
    assert any("estimated_subset_accuracy rests on the 21 answers" in line for line in report.warnings)


def test_opinion_files_hold_several_labels(desk: Desk, tmp_path: Path) -> None:
    desk.promote()
    keys = desk.ask(desk.pairs[600:604])
    rows = [f"{keys[0]},-1,card; damaged", f'{keys[1]},,"[""refund""]"', f"{keys[2]},,[]", f"{keys[3]},1,"]
    file = write(tmp_path / "said.csv", "id,rating,correction\n" + "\n".join(rows) + "\n")
    assert import_file(desk, file) == "imported 4 rows of said.csv; 0 were there already"
    assert import_file(desk, file) == "imported 0 rows of said.csv; 4 were there already"
    whole = write(tmp_path / "whole.csv", "text,label\nwhere is it,parcel;card;parcel\nhello there,\n")
    assert import_file(desk, whole) == "imported 2 rows of whole.csv; 0 were there already"
    desk.run()
    assert {row["text"]: row["label"] for row in desk.harvested()} == {
        desk.pairs[600][0]: ["card", "damaged"], desk.pairs[601][0]: ["refund"], desk.pairs[602][0]: [],
        "where is it": ["card", "parcel"], "hello there": [],
    }  # fmt: skip


def test_opinion_files_have_columns_of_yes_and_no(desk: Desk, tmp_path: Path) -> None:
    desk.section = TextClassificationSection(labels="many", label=["card", "parcel"])
    desk.promote()
    file = write(tmp_path / "more.csv", "text,card,parcel\nwhere is it,1,1\nhello there,0,0\n")
    assert import_file(desk, file) == "imported 2 rows of more.csv; 0 were there already"
    desk.run()
    assert [row["label"] for row in desk.harvested()] == [["card", "parcel"], []]


@pytest.mark.parametrize(
    ("section", "content", "words"),
    [
        ({"separator": ";", "empty": "drop"}, "text,label\nhello,\n", "the label is missing"),
        ({"label": ["card", "parcel"]}, "text,card,parcel\nhello,1,maybe\n", "'parcel' is neither yes nor no"),
        ({"separator": ";"}, "id,rating,correction\nx,,\n", "neither a rating nor a correction"),
    ],
)
def test_bad_opinions_are_told(desk: Desk, tmp_path: Path, section: dict[str, Any], content: str, words: str) -> None:
    desk.section = TextClassificationSection(labels="many", **section)
    with pytest.raises(DataError) as told:
        import_file(desk, write(tmp_path / "bad.csv", content))
    assert any(words in mistake.what for mistake in told.value.mistakes), told.value.mistakes


TRAIN = "{model: bag-of-words, epochs: 12, learning_rate: 3.0e-2, width: 16, vocabulary: 300, batch_size: 16}"
CHANGES = (
    "tune=null", "compress={candidates: [float32], max_quality_loss: 0.2}", "deploy.port=0", "need.probe_s=0.2",
    f"train={TRAIN}", "need.accept.champion={no_worse_by: 0.3}",
    "feedback.retrain_when={corrections: 40, drift: false}",
)  # fmt: skip
SMALL = [word for change in CHANGES for word in ("--set", change)]
"""What a test changes of the drafted config, to be quick."""


@contextmanager
def served(config: Path) -> Iterator[httpx.Client]:
    serving = subprocess.Popen([*LLMOPS, "serve", str(config), "--port", "0"], stderr=subprocess.PIPE, text=True)
    assert serving.stderr is not None
    address = next(word for line in serving.stderr for word in line.split() if word.startswith("http://"))
    try:
        with httpx.Client(base_url=address, timeout=60) as client:
            yield client
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=60)


def test_the_loop_turns_twice_with_several_labels(tmp_path: Path) -> None:
    """init, run, answers of several labels, corrections that bring a new one, feedback, and a second champion."""
    tiny_labels.write_rows(tmp_path / "tickets.csv", 300)
    llmops("init", "--data", "tickets.csv", cwd=tmp_path)
    config = tmp_path / "tickets.yaml"
    assert 'labels: many, separator: ";"' in config.read_text()
    assert json.loads(llmops("run", config, *SMALL, "--json"))["champion"] == 1

    with served(config) as client:
        new = [{**row, "label": sorted({*row["label"], "locker"})} for row in tiny_labels.rows(80, seed=9)]
        asked = [f"{row['text']} locker station" for row in new]
        answers = client.post("/v1/predict", json={"texts": asked[:60]}).json()["results"]
        assert {len(answer["labels"]) for answer in answers} > {0, 1, 2}
        for answer, row in zip(answers, new, strict=False):
            reply = client.post("/v1/feedback", json={"id": answer["id"], "correction": row["label"], "by": "team"})
            assert reply.json()["correction"] == row["label"]

        told = json.loads(llmops("feedback", config, *SMALL, "--json"))
        [feedback] = [stage for stage in told["stages"] if stage["name"] == "feedback"]
        assert (feedback["numbers"]["due"], feedback["numbers"]["new_labels"]) == (True, 1)
        verdict = json.loads(llmops("run", config, "--if-due", *SMALL, "--json"))
        assert verdict["champion"] == 2
        end = time.monotonic() + 30
        while client.get("/v1/model").json()["version"] != 2 and time.monotonic() < end:
            time.sleep(0.2)
        assert client.get("/v1/model").json()["labels"] == ["account", "delivery", "locker", "money"]
        later = client.post("/v1/predict", json={"texts": asked[60:]}).json()["results"]
        found = [{one["label"] for one in answer["labels"]} for answer in later]
        assert sum("locker" in labels for labels in found) >= 16, "of twenty held-out texts about the new label"
        assert sum(len(labels) > 1 for labels in found) >= 10
