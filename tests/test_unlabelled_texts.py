"""Texts without labels: read and sifted by prepare, learnt before few rows, left by feedback for the next turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer

from llmops import tasks
from llmops.core.errors import DataError
from llmops.core.protocols import Job
from llmops.core.report import Report
from llmops.core.section import Section
from llmops.engine.ragged import Ragged, ragged
from llmops.nets.encoder import load_encoder
from llmops.records.traffic import TrafficLog, new_id
from llmops.records.unlabelled import traffic_file
from llmops.stages.deploy.config import DeploySection
from llmops.stages.feedback.config import FeedbackSection
from llmops.stages.need.config import need_section
from llmops.stages.need.stage import NeedStage
from llmops.stages.prepare.config import PrepareSection
from llmops.stages.prepare.stage import PrepareStage
from llmops.tasks.text_classification.config import TextAcceptSection, TextClassificationSection, TextTrainSection
from llmops.tasks.text_classification.few.config import FewSection
from llmops.tasks.text_classification.few.unlabelled import foreseen_s
from llmops.tasks.text_classification.learner import TextClassifier
from tests.cases_data import csv_text
from tests.rooms import FakeProgress, FakeRoom, places_in
from tests.test_feedback import Shop
from tests.test_few_rows import report as told
from tests.test_loop import llmops, states
from tests.test_training_kills import driven
from tests.tiny import project
from tests.words import TASK, dataset, rows, settings, tiny_bert

TEXTS = tasks.find("text-classification")
LABELLED: list[tuple[str, ...]] = [(f"ice and snow number {n}", "cold") for n in range(20)]
LABELLED += [(f"sun and fire {n}", "hot") for n in range(20)]
TESTED: list[tuple[str, ...]] = [("write to anna@example.org about frost", "cold"), ("flames at noon", "hot")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"), layers=2)


# --- prepare ----------------------------------------------------------------------------------------------------------


def sections(bert: Path, unlabelled: Any, task: dict[str, Any] | None = None) -> dict[str, Section]:
    steps = [{"clean": {}}, {"split": {"test_file": "held.csv"}}]
    prepare = {"sources": ["data.csv"], "steps": steps, "unlabelled": unlabelled}
    return {
        "prepare": PrepareSection.model_validate(prepare),
        "task": TextClassificationSection(**(task or {})),
        "train": settings(model=str(bert), few=FewSection(), precision="float32"),
    }


def prepared(root: Path, bert: Path, unlabelled: Any, room: str = "room") -> tuple[Report, Path]:
    (root / "data.csv").write_text(csv_text(LABELLED))
    (root / "held.csv").write_text(csv_text(TESTED))
    fake = FakeRoom(root / room)
    job = Job("demo", sections(bert, unlabelled), TEXTS, {}, fake, places_in(root), seed=0)
    return PrepareStage().run(job), fake.out / "dataset"


def texts_of(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_texts_are_read_without_labels_and_none_of_the_data_set_is_kept(tmp_path: Path, bert: Path) -> None:
    told = [
        "blue  winter",  # cleaned
        "Blue winter!",  # said before
        "FLAMES, at noon",  # a test row in other letters
        "write to <email> about frost",  # a test row as the log keeps it
        "ice and snow number 7",  # a row that trains or validates
        "a red leaf",
    ]
    (tmp_path / "more.csv").write_text("when,text\n" + "".join(f'monday,"{text}"\n' for text in told))
    (tmp_path / "lines.txt").write_text("moss in the forest\n\na tree, a leaf\n\u200b\nblue winter\n")
    report, folder = prepared(tmp_path, bert, ["more.csv", "lines.txt"])
    kept = ["blue winter", "a red leaf", "moss in the forest", "a tree, a leaf"]
    assert texts_of(folder / "unlabelled.jsonl") == kept
    assert (report.numbers["unlabelled_read"], report.numbers["unlabelled"]) == (10, 4)
    [table] = [table for table in report.tables if table.title.startswith("Texts without labels")]
    assert table.rows == [
        ["kept", 4],
        ["stand in the data set (training, validation or test)", 3],
        ["said before", 2],
        ["empty_after_cleaning", 1],
    ]
    arrays = Ragged.read(folder / "unlabelled.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    ids = [arrays.tokens[a:b].tolist() for a, b in zip(arrays.offsets, arrays.offsets[1:], strict=False)]
    assert ids == [tokenizer.encode(text).ids for text in kept]
    assert set(arrays.labels.tolist()) == {-1}
    assert report.numbers["test"] == 2, "the splits are as they would be without"


def test_without_the_setting_nothing_is_written_and_the_splits_are_the_same(tmp_path: Path, bert: Path) -> None:
    (tmp_path / "more.txt").write_text("a red leaf\n")
    without, bare = prepared(tmp_path, bert, None)
    _, folder = prepared(tmp_path, bert, "more.txt", "other")
    assert "unlabelled" not in without.numbers and not list(bare.glob("unlabelled.*"))
    for split in ("train", "valid", "test"):
        assert (bare / f"{split}.safetensors").read_bytes() == (folder / f"{split}.safetensors").read_bytes()


def test_the_traffics_file_may_not_be_there_yet_and_others_must(tmp_path: Path, bert: Path) -> None:
    report, folder = prepared(tmp_path, bert, "traffic/demo/unlabelled.jsonl")
    assert report.numbers["unlabelled"] == 0 and not (folder / "unlabelled.safetensors").exists()
    with pytest.raises(DataError, match=r"there is no file gone\.txt"):
        prepared(tmp_path, bert, "gone.txt", "second")
    (tmp_path / "more.csv").write_text("words\nhello\n")
    with pytest.raises(DataError, match="has no column `text`"):
        prepared(tmp_path, bert, "more.csv", "third")


def test_texts_that_cannot_be_read_are_counted_and_too_many_refused(tmp_path: Path, bert: Path) -> None:
    lines = [json.dumps({"text": f"leaf {n}"}) for n in range(40)]
    (tmp_path / "more.jsonl").write_text("\n".join([*lines, '{"text": ["a", "b"]}', '{"says": "a"}']))
    report, _ = prepared(tmp_path, bert, "more.jsonl")
    [table] = [table for table in report.tables if table.title.startswith("Texts without labels")]
    assert report.numbers["unlabelled"] == 40 and len(table.rows) == 5 and "no column 'text'" in str(table.rows)
    (tmp_path / "more.jsonl").write_text('{"text": "a leaf"}\n{"text": ""}\n')
    with pytest.raises(DataError, match="1 of 2 rows are bad"):
        prepared(tmp_path, bert, "more.jsonl", "second")


def test_the_files_decide_the_result_of_need_and_prepare(tmp_path: Path, bert: Path) -> None:
    places = places_in(tmp_path)
    blocks = {**sections(bert, ["more.txt", "hf://hub/texts"]), "need": need_section(TextAcceptSection)()}
    for stage in (PrepareStage(), NeedStage()):
        assert tmp_path / "more.txt" in stage.depends(blocks, TEXTS, places).files


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({"train": {"few": None}}, "read by `train.few` alone"),
        ({"train": {"model": "bag-of-words", "few": None}}, "read by `train.few` alone"),
        ({"train": {"method": "frozen"}}, "`method: frozen` leaves the encoder as it is"),
        ({"prepare": {"unlabelled": []}}, "unlabelled"),
        ({"train": {"few": {"unlabelled_rows": 0}}}, "unlabelled_rows"),
    ],
)
def test_what_would_teach_nothing_is_refused(tmp_path: Path, bert: Path, blocks: dict[str, Any], said: str) -> None:
    path = project(tmp_path)
    config = yaml.safe_load(path.read_text())
    config["train"] = {"model": str(bert), "few": {}}
    config["prepare"]["unlabelled"] = "more.txt"
    path.write_text(yaml.safe_dump(config))
    llmops("check", path)
    for name, changes in blocks.items():
        config[name] |= changes
    path.write_text(yaml.safe_dump(config))
    assert said in llmops("check", path, code=3)


def test_another_task_refuses_texts_without_labels(tmp_path: Path) -> None:
    blocks = {"prepare": PrepareSection(sources=["a.csv"], unlabelled="b.txt"), "train": TextTrainSection()}
    for name in ("text-generation", "tabular", "answering"):
        task = tasks.find(name)
        [mistake] = PrepareStage().check({**blocks, "task": task.section.model_construct()}, task, places_in(tmp_path))
        assert f"teach nothing to a {name} model" in mistake.what and mistake.where == "prepare.unlabelled"


# --- the training -----------------------------------------------------------------------------------------------------


def few(bert: Path, method: str = "full", **more: Any) -> TextTrainSection:
    block = FewSection(**{"unlabelled_epochs": 2, "unlabelled_rate": 1e-3, **more})
    return settings(model=str(bert), epochs=2, method=method, precision="float32", few=block)


def data_set(folder: Path, train: TextTrainSection, unlabelled: int = 150) -> Path:
    """A data set of 24 training rows and texts without labels."""
    data = dataset(folder, train, count=24)
    if unlabelled:
        TEXTS.encoder(TASK, train).unlabelled(rows(unlabelled, 9), data)  # type: ignore[attr-defined]
    return data


def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
    """The largest difference between two encoders' weights."""
    theirs = dict(other.named_parameters())
    return max(float((value - theirs[name]).abs().max().detach()) for name, value in one.named_parameters())


def trained(bert: Path, folder: Path, train: TextTrainSection, unlabelled: int = 150) -> tuple[TextClassifier, Any]:
    learner = TextClassifier(TASK, train, 1)
    return learner, learner.train(data_set(folder, train, unlabelled), folder / "work", FakeRoom(folder / "room"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_both_trainings_start_from_the_encoder_that_read_the_texts(tmp_path: Path, bert: Path, method: str) -> None:
    still = few(bert, method).model_copy(update={"learning_rate": 1e-9, "weight_decay": 0.0})
    learner, found = trained(bert, tmp_path, still)
    before = load_encoder(bert, 0.0)
    assert learner.start is not None and apart(learner.start, before) > 1e-3
    encoder: Any = learner.trained()
    assert apart(encoder.encoder, learner.start) < 1e-5, "the last training, which hardly moved, began elsewhere"
    assert found["refit_rows"] == 48 and found["unlabelled_rows"] == 150
    assert found["seconds"] >= found["unlabelled_s"] + found["refit_s"]
    assert found["spent"]["texts without labels"] == found["unlabelled_s"] > 0


def test_two_views_of_a_text_come_nearer_than_other_texts(tmp_path: Path, bert: Path) -> None:
    learner, _ = trained(bert, tmp_path, few(bert, unlabelled_epochs=6))
    assert learner.start is not None
    whole = ragged([[2, 10, 11, 12, 13, 14, 15], [2, 20, 21, 22, 23, 24, 25], [2, 30, 31, 32, 33, 34, 35]], [0, 0, 0])
    tokens = torch.from_numpy(whole.padded(np.arange(3), 0)[0])
    part = torch.ones_like(tokens)
    part[:, 4:] = 0

    def margin(encoder: Any) -> float:
        views = [encoder(input_ids=tokens, attention_mask=m).last_hidden_state for m in (torch.ones_like(part), part)]
        unit = [torch.nn.functional.normalize(view[:, :4].mean(1), dim=-1) for view in views]
        near = (unit[0] @ unit[1].T).detach()
        return float(near.diag().mean() - near[~torch.eye(3, dtype=torch.bool)].mean())

    assert margin(learner.start) > margin(load_encoder(bert, 0.0).eval()) + 0.05


@pytest.mark.parametrize(
    ("method", "more", "unlabelled"),
    [("frozen", {}, 150), ("full", {"unlabelled_epochs": 0}, 150), ("full", {}, 0)],
)
def test_without_texts_or_passes_nothing_is_different(
    tmp_path: Path, bert: Path, method: str, more: dict[str, Any], unlabelled: int
) -> None:
    train = few(bert, method, **more)
    with_them, found = trained(bert, tmp_path / "a", train, unlabelled)
    without, _ = trained(bert, tmp_path / "b", train, 0)
    assert with_them.start is None and "unlabelled_rows" not in found
    test = tmp_path / "b" / "dataset"
    assert np.array_equal(with_them.predict(test, "test"), without.predict(test, "test"))


def test_of_very_many_texts_some_are_drawn_the_same_each_time(tmp_path: Path, bert: Path) -> None:
    train = few(bert, unlabelled_rows=40)
    one, found = trained(bert, tmp_path / "a", train)
    two, _ = trained(bert, tmp_path / "b", train)
    assert found["unlabelled_rows"] == 40
    assert one.start is not None and two.start is not None and apart(one.start, two.start) == 0.0


def test_a_second_training_without_texts_starts_from_the_pretrained_encoder(tmp_path: Path, bert: Path) -> None:
    train = few(bert)
    learner, _ = trained(bert, tmp_path / "a", train)
    learner.train(data_set(tmp_path / "b", train, 0), tmp_path / "work", FakeRoom(tmp_path / "room"))
    assert learner.start is None


class Halting(FakeRoom):
    """A room in which the third look at a progress bar ends the process, as it were."""

    def progress(self, what: str, total: float | None = None) -> FakeProgress:
        class Bar(FakeProgress):
            def update(self, done: float, note: str = "") -> None:
                super().update(done, note)
                if len(self.updates) == 3:
                    raise KeyboardInterrupt

        return Bar(what, total)


def test_reading_carries_on_where_it_was_halted(tmp_path: Path, bert: Path) -> None:
    train = few(bert, unlabelled_epochs=5, refit=False).model_copy(update={"checkpoint_every_s": 0.0})
    data, whole, halted = data_set(tmp_path, train), TextClassifier(TASK, train, 1), TextClassifier(TASK, train, 1)
    whole.train(data, tmp_path / "whole", FakeRoom(tmp_path / "a"))
    with pytest.raises(KeyboardInterrupt):
        halted.train(data, tmp_path / "halted", Halting(tmp_path / "b"))
    assert halted.start is None, "it was halted while it read"
    again, room = TextClassifier(TASK, train, 1), FakeRoom(tmp_path / "c")
    again.train(data, tmp_path / "halted", room)
    assert room.said[0].startswith("reading 150 texts") and room.said[1].startswith("carrying on with epoch")
    assert np.array_equal(again.predict(data, "test"), whole.predict(data, "test"))
    assert apart(again.trained(), whole.trained()) == 0.0


@pytest.mark.prove
def test_kills_while_the_texts_are_read_change_no_bit(tmp_path: Path, bert: Path) -> None:
    block = {"unlabelled_epochs": 100, "unlabelled_rate": 1e-3, "refit": False}
    changes = {"model": str(bert), "epochs": 2, "few": block, "checkpoint_every_s": 0.02, "precision": "float32"}
    data = data_set(tmp_path, settings(**changes), 1000)
    _, wanted, _ = driven(tmp_path / "whole", 0, changes, data)
    killed, found, said = driven(tmp_path / "killed", 5, changes, data)
    assert killed == 5, "the training was over before it was killed so often: make it longer"
    assert said[1].startswith("carrying on with epoch")
    assert found == wanted


def test_the_forecast_counts_the_texts(tmp_path: Path, bert: Path) -> None:
    learner = TextClassifier(TASK, few(bert), 1)
    with_them, without = data_set(tmp_path / "a", few(bert)), data_set(tmp_path / "b", few(bert), 0)
    assert foreseen_s(learner, with_them, tmp_path / "w", 0.1, FakeRoom(tmp_path)) > 0
    assert foreseen_s(learner, without, tmp_path / "v", 0.1, FakeRoom(tmp_path)) == 0.0
    for data, tried in ((with_them, 2), (without, 1)):
        room = FakeRoom(tmp_path)
        learner.probe(data, 0.2, room)
        assert [bar.what for bar in room.bars].count("probing") == tried
    assert learner.start is None, "a forecast leaves nothing behind for the training"


def test_need_foresees_with_the_texts(tmp_path: Path, bert: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text(LABELLED))
    (tmp_path / "held.csv").write_text(csv_text(TESTED))
    (tmp_path / "more.txt").write_text("a red leaf\nflames at noon\n")
    blocks = {**sections(bert, "more.txt"), "need": need_section(TextAcceptSection)(probe_s=0.2)}
    room = FakeRoom(tmp_path / "room")
    NeedStage().run(Job("demo", blocks, TEXTS, {}, room, places_in(tmp_path), seed=0))
    assert len(Ragged.read(room.work / "sample" / "unlabelled.safetensors")) == 1


# --- feedback ---------------------------------------------------------------------------------------------------------


class Asking(Shop):
    """A shop whose config names the traffic's file, or another."""

    named = "traffic/demo/unlabelled.jsonl"

    @property
    def sections(self) -> dict[str, Any]:
        prepare = PrepareSection(sources=["data.csv"], unlabelled=["other.txt", self.named])
        task, feedback = TextClassificationSection(text="words"), FeedbackSection(**self.settings)
        return {"task": task, "prepare": prepare, "deploy": DeploySection(), "feedback": feedback}

    def left(self) -> list[str]:
        return [json.loads(line)["words"] for line in traffic_file(self.places).read_text().splitlines()]


def test_feedback_leaves_what_nobody_corrected_the_newest_first(tmp_path: Path) -> None:
    shop = Asking(tmp_path, {})
    shop.promote()
    shop.send(shop.rows[600:610], version=7)  # an older model's
    shop.send(shop.rows[610:620], corrected=4)
    shop.send([("mail me at anna@example.org please", "card"), (shop.rows[612][0].upper(), "card")])
    shop.send([(shop.rows[601][0], "card")])
    before = shop.depends()
    report, _ = shop.run()
    newest = [shop.rows[601][0], "mail me at <email> please", *(text for text, _ in reversed(shop.rows[614:620]))]
    assert shop.left()[:8] == newest
    assert set(shop.left()[8:]) == {text for text, _ in shop.rows[600:610]} - {shop.rows[601][0]}
    assert report.numbers["unlabelled_texts"] == 17
    assert shop.depends() != before, "a file that somebody deletes is gathered again"


def test_feedback_leaves_no_file_that_nobody_asked_for(tmp_path: Path) -> None:
    shop = Asking(tmp_path, {})
    shop.named = "mine/unlabelled.jsonl"
    shop.promote()
    shop.send(shop.rows[600:610])
    report, _ = shop.run()
    assert not traffic_file(shop.places).exists() and "unlabelled_texts" not in report.numbers


def test_a_handful_of_new_texts_leaves_the_file_alone(tmp_path: Path) -> None:
    shop = Asking(tmp_path, {})
    shop.promote()
    shop.send(shop.rows[600:640])
    shop.run()
    first = shop.left()
    shop.send(shop.rows[640:643])
    report, _ = shop.run()
    assert shop.left() == first and report.numbers["unlabelled_texts"] == 40
    shop.send(shop.rows[643:646])
    shop.run()
    assert len(shop.left()) == 46
    traffic_file(shop.places).write_text("{torn")
    shop.run()
    assert len(shop.left()) == 46


def test_a_log_without_contents_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    shop = Asking(tmp_path, {})
    shop.promote()
    with TrafficLog(shop.places.traffic / "traffic.db", keep_text=False) as log:
        for text, label in shop.rows[600:605]:
            log.record(
                new_id(), version=1, request={"text": text}, response={}, label=label, probability=0.9,
                abstained=False, latency_ms=1.0,
            )  # fmt: skip
    report, _ = shop.run()
    assert not traffic_file(shop.places).exists() and report.numbers["unlabelled_texts"] == 0
    assert any("no text is there for `prepare.unlabelled`" in line for line in report.warnings)


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_the_traffic_of_one_turn_is_read_in_the_next(tmp_path: Path, bert: Path) -> None:
    path = project(tmp_path, rows=60)
    config = yaml.safe_load(path.read_text())
    config["prepare"] |= {"unlabelled": ["more.txt", "traffic/tiny/unlabelled.jsonl"]}
    config["train"] = {"model": str(bert), "epochs": 3, "learning_rate": 3e-3, "few": {}, "precision": "float32"}
    config["need"] = {"probe_s": 0.2, "accept": {"parity": {"at_least": 0.5}, "above_baseline": None, "champion": None}}
    path.write_text(yaml.safe_dump(config))
    (tmp_path / "more.txt").write_text("the courier and the van\nlocked out of my profile\n")
    llmops("run", path)
    assert told(tmp_path, "train")["numbers"]["unlabelled_rows"] == 2
    assert "begun on 2 texts without labels" in told(tmp_path, "train")["headline"]
    assert set(states(llmops("run", path, "--json")).values()) == {"done"}
    with TrafficLog(tmp_path / "traffic" / "tiny" / "traffic.db") as log:
        for number in range(5):
            log.record(
                new_id(), version=1, request={"text": f"where is parcel {number}"}, response={}, label="delivery",
                probability=0.5, abstained=False, latency_ms=1.0,
            )  # fmt: skip
    llmops("feedback", path)
    assert told(tmp_path, "feedback")["numbers"]["unlabelled_texts"] == 5
    llmops("run", path)
    assert told(tmp_path, "prepare")["numbers"]["unlabelled"] == 7
    assert told(tmp_path, "train")["numbers"]["unlabelled_rows"] == 7
    assert set(states(llmops("run", path, "--json")).values()) == {"done"}
