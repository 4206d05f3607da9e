"""A loop of two classes that turns by roc_auc: what its reports show, its gates on an event, its second turn."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from llmops.core.report import Report
from tests import tiny
from tests.test_loop import llmops

SPAM = "winner prize claim free offer cash bonus click".split()
HAM = "invoice meeting parcel refund password lunch report train".split()

CONFIG = """\
version: 1
project: mail
task: {name: text-classification, text: text, label: label, metric: roc_auc}
need:
  probe_s: 0.2
  accept:
    roc_auc: {at_least: 0.6}
    average_precision: {at_least: 0.3}
    recall: {at_least: 0.05}
    above_baseline: null
    parity: {at_least: 0.9}
prepare: {sources: [mail.csv], steps: [split: {valid: 0.25, test: 0.25}]}
train: {model: bag-of-words, epochs: 5, learning_rate: 1e-2, width: 16, vocabulary: 200}
tune: {trials: 2, seconds: 60, space: {learning_rate: {log: [1.0e-3, 3.0e-2]}}}
compress: {candidates: [float32, int8], max_quality_loss: 0.3}
deploy: {port: 0}
"""


def mail(folder: Path) -> Path:
    """A project of two classes, a fifth of the rows spam, and not all of them plain; returns its config."""
    dice = random.Random(3)
    with (folder / "mail.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number in range(400):
            label = "spam" if number % 5 == 0 else "ham"
            own, other = (SPAM, HAM) if label == "spam" else (HAM, SPAM)
            said = [dice.choice(own if dice.random() < 0.65 else other) for _ in range(5)]
            writer.writerow([f"{' '.join(said)} {number}", label])
    config = folder / "mail.yaml"
    config.write_text(CONFIG)
    return config


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mail project, whose loop has turned by roc_auc."""
    config = mail(tmp_path_factory.mktemp("mail"))
    assert json.loads(llmops("run", config, "--json"))["champion"] == 1
    return config


@pytest.fixture
def copy(turned: Path, tmp_path: Path) -> Path:
    """A copy of it, for tests that turn on."""
    shutil.copytree(turned.parent, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy" / "mail.yaml"


def report(config: Path, stage: str) -> Report:
    run = config.parent / "runs" / "mail" / "latest"
    return Report.read(json.loads((run / stage / "report.json").read_text()))


def test_the_loop_turns_by_roc_auc(turned: Path) -> None:
    assert any("roc_auc" in line for line in (report(turned, "need").headline, report(turned, "compress").headline))
    assert "events_test" in report(turned, "need").numbers
    assert "valid_roc_auc" in report(turned, "tune").numbers
    proven = report(turned, "deploy")
    run = turned.parent / "runs" / "mail" / "latest"
    lines = [json.loads(line) for line in (run / "deploy" / "proof" / "answers.jsonl").read_text().splitlines()]
    event = np.array([line["true"] == "spam" for line in lines])
    sure = np.array([p if line["best"] == "spam" else 1 - p for line in lines for p in [line["probability"]]])
    numbers: dict[str, Any] = proven.numbers
    assert numbers["event"] == "spam"
    assert numbers["events"] == event.sum()
    assert 0.6 < numbers["roc_auc"] < 1
    assert numbers["roc_auc"] == pytest.approx(sk.roc_auc_score(event, sure), abs=1e-9)
    assert numbers["average_precision"] == pytest.approx(sk.average_precision_score(event, sure), abs=1e-9)
    assert numbers["recall"] == pytest.approx(sk.recall_score(event, [line["best"] == "spam" for line in lines]))
    assert numbers["above_baseline"] == pytest.approx(numbers["roc_auc"] - numbers["baseline"])


def test_the_report_shows_classes_curves_and_the_picture(turned: Path) -> None:
    proven = report(turned, "deploy")
    [table] = [table for table in proven.tables if table.title.startswith("By class, the worst F1 first")]
    assert [row[0] for row in table.rows] == ["spam", "ham"]
    assert [curve.title[:3] for curve in proven.curves[:2]] == ["ROC", "Pre"]
    [grid] = proven.grids
    assert grid.names == ["ham", "spam"]
    assert sum(map(sum, grid.cells)) == proven.numbers["in_scope_rows"]
    page = (turned.parent / "runs" / "mail" / "latest" / "report.html").read_text()
    assert "true spam, answered spam:" in page and "ROC, area" in page
    markdown = (turned.parent / "runs" / "mail" / "latest" / "deploy" / "report.md").read_text()
    assert "| class | precision | recall | F1 | rows |" in markdown


def test_a_gate_on_recall_refuses(copy: Path) -> None:
    said = llmops("run", copy, "--set", "need.accept.recall.at_least=1.0", code=6)
    assert "recall is" in said and "not at least 1" in said
    assert any("recall (of the event)" in line for line in report(copy, "need").warnings), "few events know it"
    assert (copy.parent / "registry" / "mail" / "champion").read_text().strip() == "1"


def test_a_second_turn_is_held_against_the_champion(copy: Path) -> None:
    changes = ("train.epochs=6", "tune.trials=1", "need.accept.champion.no_worse_by=1")
    said = llmops("run", copy, "--json", *(word for change in changes for word in ("--set", change)))
    assert json.loads(said)["champion"] == 2
    numbers: dict[str, Any] = report(copy, "deploy").numbers
    assert numbers["champion_delta"] == pytest.approx(numbers["roc_auc"] - numbers["champion"])


def test_three_classes_have_no_recall(tmp_path: Path) -> None:
    config = tiny.project(tmp_path)
    said = llmops("need", config, "--set", "need.accept.recall={at_least: 0.9}", code=4)
    assert "recall is a figure of two classes, and the rows have 3" in said
    said = llmops("need", config, "--set", "task.metric=recall", code=4)
    assert "balanced_accuracy" in said
