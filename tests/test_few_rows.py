"""Few rows a class: prototypes, contrast, the last training on all rows, classes in words, what init writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from llmops.core.artifact import tree_digest
from llmops.core.protocols import Base
from llmops.engine.ragged import Ragged, joined, ragged, taken
from llmops.engine.update import begin
from llmops.records.described import described_rows, label_words
from llmops.starter import draft
from llmops.tasks import find
from llmops.tasks.text_classification.calibration import fit_temperature
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.few.config import FewSection
from llmops.tasks.text_classification.few.contrast import batches, contrastive_loss, plan_pairs
from llmops.tasks.text_classification.few.prototypes import begin_as_prototypes
from llmops.tasks.text_classification.learner import TextClassifier
from tests.rooms import FakeRoom
from tests.test_loop import llmops
from tests.test_starter import sentences
from tests.tiny import project
from tests.words import TASK, rows, settings, tiny_bert

TRAIN = "train: {{model: {bert}, epochs: 4, learning_rate: 3e-3, few: {{}}}}"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"), layers=2)


def data_set(folder: Path, train: TextTrainSection) -> Path:
    splits = {"train": rows(24, 1), "valid": rows(12, 2), "test": rows(24, 3)}
    find("text-classification").encoder(TASK, train).prepare(splits, folder)
    return folder


def few(bert: Path, **more: Any) -> TextTrainSection:
    told = {"few": FewSection(contrast=1.0), "precision": "float32", **more}  # not chosen by the clock
    return settings(model=str(bert), epochs=3, **told)


def test_a_head_begins_as_cosines_to_the_classes_means() -> None:
    vectors, labels = torch.randn(9, 4), torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, -1])
    head = nn.Linear(4, 4)
    kept = head.weight[3].detach().clone()
    begin_as_prototypes(head, vectors, labels, 0.1)
    unit = nn.functional.normalize(vectors, dim=-1)
    for label in range(3):
        mean = nn.functional.normalize(unit[labels == label].mean(0), dim=-1)
        assert torch.allclose(head(unit)[:, label], unit @ mean / 0.1, atol=1e-5)
    assert torch.equal(head.weight[3], kept), "a class without rows keeps its weights"


def test_the_contrastive_loss_is_the_papers() -> None:
    unit = nn.functional.normalize(torch.randn(6, 5, dtype=torch.float64), dim=-1)
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    each = []
    for i in range(5):  # row 5 meets no other of its class
        others = [j for j in range(6) if j != i]
        below = sum(torch.exp(unit[i] @ unit[j] / 0.2) for j in others)
        same = [j for j in others if labels[j] == labels[i]]
        each.append(-sum(torch.log(torch.exp(unit[i] @ unit[j] / 0.2) / below) for j in same) / len(same))
    assert float(contrastive_loss(unit, labels, 0.2)) == pytest.approx(float(sum(each)) / 5)
    assert float(contrastive_loss(unit[:1], labels[:1], 0.2)) == 0.0


@pytest.mark.parametrize(("counts", "size"), [([10] * 7, 16), ([1, 2, 3, 4, 5], 4), ([1], 8), ([3, 300], 32)])
def test_pairs_hold_each_row_once_beside_its_class(counts: list[int], size: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    plan = plan_pairs(labels, size, 5, 2)
    assert len(plan) == batches(len(labels), size) and max(map(len, plan)) <= size
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(labels)))
    met = [sum((labels[batch] == labels[row]).sum() > 1 for row in batch) for batch in plan]
    alone = sum(count == 1 for count in counts)
    assert sum(met) >= len(labels) - alone - 2 * len(plan) - sum(count % 2 for count in counts)
    assert all(np.array_equal(a, b) for a, b in zip(plan, plan_pairs(labels, size, 5, 2), strict=True))
    if len(labels) > 8:
        assert not np.array_equal(np.concatenate(plan), np.concatenate(plan_pairs(labels, size, 5, 3)))


def test_rows_of_two_splits_end_to_end() -> None:
    first, second = ragged([[1, 2], [3]], [0, 1]), ragged([[4, 5, 6], [], [7]], [1, -1, 0])
    both = joined(first, taken(second, np.array([2, 0])))
    assert [both.tokens[a:b].tolist() for a, b in zip(both.offsets, both.offsets[1:], strict=False)] == [
        [1, 2], [3], [7], [4, 5, 6]
    ]  # fmt: skip
    assert both.labels.tolist() == [0, 1, 0, 1] and len(taken(first, np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize("method", ["full", "lora", "frozen"])
def test_the_last_training_learns_validation_rows_and_what_came_before_is_kept(
    tmp_path: Path, bert: Path, method: str
) -> None:
    train = few(bert, method=method)
    data = data_set(tmp_path / "data", train)
    once = TextClassifier(TASK, train.model_copy(update={"few": FewSection(contrast=1.0, refit=False)}), 1)
    once.train(data, tmp_path / "once", FakeRoom(tmp_path / "a"))
    again = TextClassifier(TASK, train, 1)
    found = again.train(data, tmp_path / "again", FakeRoom(tmp_path / "b"))
    assert found["refit_rows"] == 36 and once.unseen is None
    assert again.unseen is not None and np.array_equal(again.unseen, once.predict(data, "valid"))
    assert not np.array_equal(again.predict(data, "valid"), again.unseen)
    truth = Ragged.read(data / "valid.safetensors").labels
    assert found["metrics"]["accuracy"] == pytest.approx(float((again.unseen.argmax(1) == truth).mean()))
    again.save(tmp_path / "model")
    loaded = TextClassifier(TASK, train, 1)
    loaded.load(tmp_path / "model")
    assert loaded.unseen is not None and np.array_equal(loaded.unseen, again.unseen)
    assert np.allclose(loaded.predict(data, "test"), again.predict(data, "test"), atol=1e-5)


def test_no_epoch_ends_the_last_training_early(tmp_path: Path, bert: Path) -> None:
    train = few(bert, patience=2).model_copy(update={"epochs": 9})
    learner = TextClassifier(TASK, train, 1)
    room = FakeRoom(tmp_path / "r")
    found = learner.train(data_set(tmp_path / "d", train), tmp_path / "w", room)
    told = [event["epoch"] for event in room.events if event["event"] == "train.epoch"]
    assert told == [*range(1, len(found["history"]) + 1), *range(1, found["best_epoch"] + 1)]


def test_without_test_rows_nothing_learns_the_judges(tmp_path: Path, bert: Path) -> None:
    train = few(bert)
    data = data_set(tmp_path / "d", train)
    (data / "test.safetensors").unlink()
    learner = TextClassifier(TASK, train, 1)
    found = learner.train(data, tmp_path / "w", FakeRoom(tmp_path / "r"))
    assert "refit_rows" not in found and learner.unseen is None


def test_names_of_classes_may_be_numbers() -> None:
    section = TextClassificationSection.model_validate({"describe": {1: "one star", 2: "two"}})
    assert section.describe == {"1": "one star", "2": "two"}


def test_a_listener_that_stops_stops_it_all(tmp_path: Path, bert: Path) -> None:
    train = few(bert)
    learner = TextClassifier(TASK, train, 1)
    found = learner.train(data_set(tmp_path / "d", train), tmp_path / "w", FakeRoom(tmp_path / "r"), lambda *_: True)
    assert "refit_rows" not in found and learner.unseen is None


def test_a_model_that_learnt_validation_rows_starts_no_update(tmp_path: Path, bert: Path) -> None:
    train = few(bert)
    data = data_set(tmp_path / "data", train)
    for name in ("train", "valid", "test"):
        (data / f"{name}.jsonl").write_text(json.dumps({"id": name, "text": "a", "label": "cold"}) + "\n")
    learner = TextClassifier(TASK, train, 1)
    learner.train(data, tmp_path / "work", FakeRoom(tmp_path / "room"))
    learner.save(tmp_path / "model")
    base = Base(1, tree_digest(tmp_path / "model"), tmp_path / "model", data)
    assert "validation rows" in begin(TextClassifier(TASK, settings(model=str(bert)), 1), base, data)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("train: {model: bag-of-words, few: {}}", "`few` needs a pretrained encoder"),
        ("train: {few: {}, update: {}}", "exclude each other"),
        ("train: {few: {temperature: 0}}", "temperature"),
        ('task: {name: text-classification, describe: {cold: " "}}', "the description of cold is empty"),
        ('task: {name: text-classification, outside: oos, describe: {oos: "x"}}', "oos is `outside`: rows of no class"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, block: str, said: str) -> None:
    path = project(tmp_path)
    config = {**yaml.safe_load(path.read_text()), **yaml.safe_load(block)}
    path.write_text(yaml.safe_dump(config))
    assert said in llmops("check", path, code=3)


def test_labels_as_words() -> None:
    assert [label_words(one) for one in ("card_lost", "card-lost", "cardLost", "PIN_blocked?")] == [
        "card lost", "card lost", "card Lost", "PIN blocked",
    ]  # fmt: skip
    section = TextClassificationSection(describe="labels")
    task = find("text-classification")
    assert described_rows(task, TextClassificationSection(), ["a"]) == []
    assert described_rows(task, section, ["b_c", "a"]) == [
        {"text": "a", "label": "a", "origin": "task.describe: a", "made_from": "task.describe"},
        {"text": "b c", "label": "b_c", "origin": "task.describe: b_c", "made_from": "task.describe"},
    ]
    many = TextClassificationSection.model_validate({"labels": "many", "describe": {"x": "about x"}})
    assert described_rows(task, many, [])[0]["label"] == ["x"]


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """A loop with few rows, in which one class has nothing but its description and rows of a test file."""
    folder = tmp_path_factory.mktemp("few")
    path = project(folder, rows=60)
    config = yaml.safe_load(path.read_text())
    with (folder / "data.csv").open(encoding="utf-8") as stream:
        given = [{"text": row["text"], "label": row["label"]} for row in csv.DictReader(stream)]
    tested = [{**row, "text": f"{row['text']} again"} for row in given[:20]]
    with (folder / "held_out.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows([*tested, {"text": "snow ice frost today", "label": "lamps"}])
    config["task"]["describe"] = {"lamps": "snow ice frost"}
    config["train"] = yaml.safe_load(TRAIN.format(bert=bert))["train"]
    config["prepare"]["steps"] = [{"split": {"valid": 0.3, "test_file": "held_out.csv"}}]
    config.pop("tune", None)
    config["need"] = {"goal": "", "accept": {"parity": {"at_least": 0.5}, "above_baseline": None}}
    path.write_text(yaml.safe_dump(config))
    llmops("run", path)
    return folder


def report(folder: Path, stage: str) -> dict[str, Any]:
    [found] = folder.glob(f"runs/*/latest/{stage}/report.json")
    read: dict[str, Any] = json.loads(found.read_text())
    return read


def test_a_class_without_rows_is_known_by_its_description(turned: Path) -> None:
    prepared = report(turned, "prepare")["numbers"]
    assert prepared["described"] == 1
    [answers] = turned.glob("runs/*/latest/deploy/proof/answers.jsonl")
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {line["true"] for line in lines if line["true"] == "lamps"} and any(
        line["best"] == "lamps" for line in lines
    )


def test_probabilities_come_from_answers_to_rows_that_were_not_learnt(turned: Path) -> None:
    trained, compressed = report(turned, "train"), report(turned, "compress")["numbers"]
    assert trained["numbers"]["refit_rows"] > 0 and "trained again" in trained["headline"]
    assert any("never saw the validation rows" in line for line in trained["warnings"])
    [bundle] = turned.glob("runs/*/latest/compress/bundle/bundle.json")
    assert json.loads(bundle.read_bytes())["lineage"]["learnt_valid"] is True
    [model] = turned.glob("runs/*/latest/train/model")
    learner = TextClassifier(TextClassificationSection(), TextTrainSection(), 0)
    learner.load(model)
    [data] = turned.glob("runs/*/latest/prepare/dataset")
    truth = Ragged.read(data / "valid.safetensors").labels
    assert learner.unseen is not None
    assert compressed["temperature"] == pytest.approx(fit_temperature(learner.unseen, truth), rel=1e-3)
    assert compressed["valid_accuracy"] == pytest.approx(float((learner.unseen.argmax(1) == truth).mean()))


@pytest.mark.parametrize(
    ("each", "names", "few", "described"),
    [
        (8, ["late_parcel", "charged_twice", "new_address"], True, True),
        (8, ["A1", "B2", "C3"], True, False),
        (60, ["late_parcel", "charged_twice", "new_address"], False, False),
    ],
)
def test_init_chooses_by_the_rows_of_a_class(
    tmp_path: Path, each: int, names: list[str], few: bool, described: bool
) -> None:
    about = [
        "the parcel has not yet come to my house",
        "my card was charged twice for this",
        "how do I change my address",
    ]
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number, (name, text) in enumerate(zip(names, about, strict=True)):
            writer.writerows([said, name] for said in sentences([*text.split(), "please"], each, number))
    config = yaml.safe_load(draft(tmp_path / "rows.csv"))
    assert ("few" in config["train"], config["task"].get("describe") == "labels") == (few, described)
    assert few != ("update" in config["train"]) and (not few or "tune" not in config)
