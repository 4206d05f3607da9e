"""Compress: real candidates of real small models, measured through the real runtime; the choice is a pure function."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops import tasks
from llmops.bundle.predictor import Predictor
from llmops.core.artifact import file_digest, tree_files, write_json, write_whole
from llmops.core.errors import GateRefused
from llmops.core.protocols import Job, Measured, Metric
from llmops.core.report import Report
from llmops.stages.compress.candidates import Spec, Workshop, specs
from llmops.stages.compress.choose import Entry, choose, paired, reasons
from llmops.stages.compress.config import CompressSection
from llmops.stages.compress.stage import CompressStage, front
from llmops.stages.deploy.twin import Twin
from llmops.stages.need.config import need_section
from llmops.tasks.text_classification import TextClassification
from llmops.tasks.text_classification.config import (
    TextAcceptSection,
    TextClassificationSection,
    TextTrainSection,
)
from tests.rooms import FakeRoom, places_in

ROOT = Path(__file__).parent.parent
TASK = tasks.find("text-classification")
WORDS = {
    "refund": "money back refund return paid twice amount credit bank".split(),
    "delivery": "parcel courier late address door van package waiting".split(),
    "login": "password account sign email code locked reset user".split(),
    "outside": "weather football song recipe moon holiday film garden".split(),
}
FILLER = "please my the i want it is today can you help with a not still".split()
TINY = {"width": 16, "vocabulary": 200, "learning_rate": 0.01, "batch_size": 16, "device": "cpu"}


def tiny_dataset(folder: Path, train: TextTrainSection, rows: int = 120) -> Path:
    """A data set folder as prepare writes it, of made-up sentences with two telling words each."""
    chance = random.Random(5)
    section = TextClassificationSection(outside="outside")
    splits: dict[str, list[dict[str, str]]] = {}
    for split, count in (("train", rows), ("valid", rows // 2), ("test", rows // 2)):
        labels = [label for label in WORDS if split != "train" or label != "outside"]
        splits[split] = []
        for index in range(count):
            label = labels[index % len(labels)]
            words = chance.sample(WORDS[label], 2) + chance.sample(FILLER, chance.randint(2, 6))
            chance.shuffle(words)
            splits[split].append({"id": f"{split}{index}", "text": " ".join(words), "label": label, "origin": "made:1"})
    TASK.encoder(section, train).prepare(splits, folder)
    for split, made in splits.items():
        write_whole(folder / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in made))
    cleaning = {"unicode": "NFC", "whitespace": True, "lowercase": False, "redact": []}
    counts = {split: len(made) for split, made in splits.items()}
    about = {"format": 1, "counts": counts, "max_tokens": 128, "cut": 0, "cleaning": cleaning, "harvest_rows": 0}
    write_json(folder / "dataset.json", about)
    return folder


def trained_job(folder: Path, model: str = "transformer", compress: Any = None, need: Any = None, **train: Any) -> Job:
    """A job of compress with a small trained model; what stands in `folder` already is used again."""
    section = TextTrainSection(model=model, **{"epochs": 3, **TINY, **train})
    blocks = {
        "task": TextClassificationSection(outside="outside"),
        "train": section,
        "need": need_section(TextAcceptSection)(goal="Route a message.", accept={"parity": None, **(need or {})}),
        "compress": CompressSection(**(compress or {})),
    }
    room = FakeRoom(folder)
    dataset, place = folder / "dataset", folder / "model"
    if not place.exists():
        tiny_dataset(dataset, section)
        learner = TASK.learner(blocks["task"], section, 1)
        learner.train(dataset, folder / "fit", room)
        learner.save(place)
    return Job("demo", blocks, TASK, {"dataset": dataset, "model": place}, room, places_in(folder), seed=1, run_id="r1")


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Report]:
    folder = tmp_path_factory.mktemp("transformer")
    candidates = ["float32", "int8", {"distil": {"layers": 1, "epochs": 2}, "form": "float32"}]
    job = trained_job(folder, compress={"candidates": candidates, "max_quality_loss": 0.5})
    return job, CompressStage().run(job)


def candidate_rows(report: Report) -> dict[str, list[Any]]:
    table = report.tables[0]
    return {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}  # type: ignore[misc]


def test_every_candidate_is_measured(transformer: tuple[Job, Report]) -> None:
    rows = candidate_rows(transformer[1])
    assert list(rows) == ["float32", "int8", "distil-1-e2"]
    for row in rows.values():
        assert 0 < row["p50 ms"] <= row["p95 ms"]
        assert row["rows/s"] > 0
        assert 0 <= row["on validation"] <= 1
    assert rows["float32"]["agreement"] == 1.0
    assert rows["distil-1-e2"]["size MB"] < rows["float32"]["size MB"]


def test_figures_stand_before_and_after(transformer: tuple[Job, Report]) -> None:
    table = transformer[1].tables[1]
    told = ["accuracy", "f1_macro", "f1_weighted", "balanced_accuracy", "roc_auc", "average_precision"]
    assert table.columns == ["candidate", *told]
    assert [row[0] for row in table.rows] == ["trained model", "float32", "int8", "distil-1-e2"]
    assert table.rows[0][1:] == table.rows[1][1:]


def test_the_bundle_answers_as_the_trained_model(transformer: tuple[Job, Report]) -> None:
    job, report = transformer
    bundle = job.room.out / "bundle"
    predictor = Predictor.open(bundle, threads=1)
    rows = [json.loads(line) for line in (job.inputs["dataset"] / "valid.jsonl").read_text().splitlines()]
    answers = predictor.answer_all([predictor.codec.Request(text=row["text"]) for row in rows])
    learner = TASK.learner(job.sections["task"], job.sections["train"], 1)
    learner.load(job.inputs["model"])
    twin = Twin(job.room.out / "twin")  # the bundle is a student's
    expected = [learner.labels[index] for index in twin.predict(job.inputs["dataset"], "valid").argmax(1)]
    known = [
        (answer, label) for answer, label, row in zip(answers, expected, rows, strict=True) if row["label"] != "outside"
    ]
    alike = np.mean([answer.best == label for answer, label in known])
    assert alike == pytest.approx(report.numbers["agreement"], abs=0.04)
    inside = [(answer, row) for answer, row in zip(answers, rows, strict=True) if row["label"] != "outside"]
    right = np.mean([answer.best == row["label"] for answer, row in inside])
    assert right == pytest.approx(report.numbers["valid_accuracy"], abs=0.04)
    coverage = np.mean([not answer.abstained for answer, _ in inside])
    assert coverage == pytest.approx(report.numbers["valid_coverage"], abs=0.04)


def test_the_smallest_is_chosen_and_its_files_are_the_candidates(transformer: tuple[Job, Report]) -> None:
    job, report = transformer
    rows = candidate_rows(report)
    name = min(rows, key=lambda name: rows[name]["size MB"])
    assert report.numbers["candidate"] == name
    assert rows[name]["verdict"] == "chosen"
    made = job.room.work / "candidates" / name
    for file in ("model.onnx", "tokenizer.json"):
        assert file_digest(job.room.out / "bundle" / file) == file_digest(made / file)


def test_bundle_and_card_say_where_it_comes_from(transformer: tuple[Job, Report]) -> None:
    job, report = transformer
    bundle = json.loads((job.room.out / "bundle" / "bundle.json").read_text())
    assert bundle["lineage"]["run"] == "r1"
    assert bundle["lineage"]["candidate"] == report.numbers["candidate"]
    assert bundle["lineage"]["base_model"] == "transformer"
    assert bundle["metrics"]["baseline"]["test"] == report.numbers["baseline_test"]
    assert bundle["settings"]["threshold"] == report.numbers["threshold"]
    assert bundle["settings"]["labels"] == ["delivery", "login", "refund"]
    assert bundle["metrics"]["valid"]["accuracy"] == report.numbers["valid_accuracy"]
    assert bundle["metrics"]["latency_p50_ms"] > 0
    assert set(bundle["files"]) == {"model.onnx", "tokenizer.json", "MODEL_CARD.md", "parity.safetensors"}
    card = (job.room.out / "bundle" / "MODEL_CARD.md").read_text()
    for said in ("Route a message.", "120 train", "delivery, login, refund", "## Limits", "dataset_sha256"):
        assert said in card


@pytest.mark.parametrize("model", ["bag-of-words", "text-cnn", pytest.param("bilstm", marks=pytest.mark.prove)])
def test_int8_of_every_network_answers_like_float32(tmp_path: Path, model: str) -> None:
    job = trained_job(tmp_path, model, {"max_quality_loss": 1.0, "prefer": "size"})
    rows = candidate_rows(CompressStage().run(job))
    assert rows["int8"]["size MB"] < rows["float32"]["size MB"]
    assert rows["int8"]["agreement"] > 0.9


def test_a_search_for_something_smaller_begins_where_nothing_usual_is_allowed(tmp_path: Path) -> None:
    job = trained_job(tmp_path, compress={"max_quality_loss": 1.0}, need={"size_mb": {"at_most": 0.0001}})
    with pytest.raises(GateRefused) as refusal:
        CompressStage().run(job)
    told = refusal.value.mistakes[0].snippet
    assert "distil-3-vocabulary-4000-int8" in told and "distil-2-prune-h25-n50-vocabulary-2000-int8" in told


def test_candidates_combine_freely(tmp_path: Path) -> None:
    both = {"distil": {"layers": 1, "epochs": 1}, "form": "int8-static"}
    job = trained_job(tmp_path, compress={"candidates": ["int8-static", both], "max_quality_loss": 1.0})
    report = CompressStage().run(job)
    rows = candidate_rows(report)
    assert list(rows) == ["float32", "int8-static", "distil-1-e1-int8-static"]
    assert rows["int8-static"]["agreement"] > 0.9 and rows["int8-static"]["memory mb"] > 10
    assert rows["float32"]["start ms"] > 0 and rows["float32"]["change"].startswith("+0.0000")
    predictor = Predictor.open(job.room.out / "bundle")
    texts = [predictor.codec.Request(text=text) for text in ("refund money", "parcel late please today", "x")]
    alone = [predictor.answer([one])[0].probability for one in texts]
    assert [one.probability for one in predictor.answer(texts)] == pytest.approx(alone, abs=1e-5), (
        "scales that are fixed do not depend on the batch"
    )
    assert [curve.x for curve in report.curves] == ["size, MB", "one answer, ms"]


def test_a_student_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    job = trained_job(tmp_path, "bag-of-words", {"candidates": ["float32", {"distil": {"layers": 1}}]})
    rows = candidate_rows(CompressStage().run(job))
    assert "no layers to leave out" in rows["distil-1-int8"]["verdict"]
    assert rows["float32"]["verdict"] == "chosen"


def test_when_none_is_allowed_nothing_is_bundled(tmp_path: Path) -> None:
    job = trained_job(tmp_path, "bag-of-words", {"candidates": ["int8"]}, {"size_mb": {"at_most": 0.0001}})
    with pytest.raises(GateRefused) as refusal:
        CompressStage().run(job)
    (mistake,) = refusal.value.mistakes
    assert "size_mb" in mistake.snippet and "nearest: int8 has" in mistake.what
    assert "max_quality_loss" in mistake.do
    assert not (job.room.out / "bundle").exists()


def test_candidates_made_twice_have_equal_bytes(tmp_path: Path, transformer: tuple[Job, Report]) -> None:
    for kind, place in transformer[0].inputs.items():
        shutil.copytree(place, tmp_path / kind)
    CompressStage().run(trained_job(tmp_path, compress=transformer[0].sections["compress"].plain()))
    assert onnx_digests(tmp_path) == onnx_digests(transformer[0].room.work.parent)
    assert len(onnx_digests(tmp_path)) == 3


def test_students_that_learn_in_other_ways_are_two() -> None:
    section = CompressSection(candidates=[
        {"distil": {"layers": 3, "epochs": 3}}, {"distil": {"layers": 3, "epochs": 12}}, {"distil": {"layers": 3}},
        {"distil": {"layers": 3}, "prune": {"heads": 0.25, "neurons": 0.5, "epochs": 1}, "vocabulary": 3000},
    ])  # fmt: skip
    names = [spec.name for spec in specs(section, TASK)]
    assert names[:3] == ["distil-3-e3-int8", "distil-3-e12-int8", "distil-3-int8"]
    assert names[3] == "distil-3-prune-h25-n50-e1-vocabulary-3000-int8"


def test_a_candidate_named_twice_is_a_mistake(tmp_path: Path) -> None:
    student = {"distil": {"layers": 2}}
    blocks = {
        "compress": CompressSection(candidates=["int8", student, "int8", student]),
        "task": TextClassificationSection(),
    }
    mistakes = CompressStage().check(blocks, TASK, places_in(tmp_path))
    assert [mistake.where for mistake in mistakes] == ["compress.candidates.2", "compress.candidates.3"]


def test_without_candidates_the_task_has_its_own_and_forms_it_lacks_are_a_mistake(tmp_path: Path) -> None:
    stage, places = CompressStage(), places_in(tmp_path)
    blocks = {"compress": CompressSection(), "task": TextClassificationSection()}
    blocks["need"] = need_section(TextAcceptSection)()
    assert stage.check(blocks, TASK, places) == []
    settings = stage.depends(blocks, TASK, places).settings
    assert settings["compress"]["candidates"] == ["float32", "int8", "int8-weights"]
    assert set(settings["gates"]) == {"latency_p95_ms", "size_mb", "parity"}
    blocks["compress"] = CompressSection(candidates=["int8", "int4-weights"])
    (mistake,) = stage.check(blocks, TASK, places)
    assert "int4-weights" in mistake.what
    assert mistake.where == "compress.candidates.1"
    assert "int8-weights" in mistake.do


class Companions(TextClassification):
    """Text classification whose export leaves more, and which completes each candidate."""

    def learner(self, section: Any, train: Any, seed: int) -> Any:
        learner: Any = super().learner(section, train, seed)
        plain = learner.export

        def export(folder: Path) -> list[Path]:
            (folder / "merged").mkdir()
            (folder / "merged" / "model.safetensors").write_bytes(b"1" * 1000)
            write_json(folder / "settings.json", {"max_tokens": 7})
            return [*plain(folder), folder / "merged"]

        learner.export = export
        return learner

    def complete(self, section: Any, dataset: Path, opened: Any, folder: Path) -> None:
        assert opened.settings["max_tokens"] == 7
        (folder / "index.txt").write_text(folder.name)


def test_companions_travel_and_each_candidate_is_completed_on_its_own(tmp_path: Path) -> None:
    job = replace(trained_job(tmp_path, "bag-of-words"), task=Companions())
    workshop = Workshop(job)
    plain, quantised = workshop.make(Spec()), workshop.make(Spec("int8"))
    assert (plain / "index.txt").read_text() == "float32.tmp"
    assert (quantised / "index.txt").read_text() == "int8.tmp"
    assert (plain / "merged" / "model.safetensors").samefile(quantised / "merged" / "model.safetensors")
    workshop.hand_over(Spec("int8"), tmp_path / "bundle")
    files = {path.relative_to(tmp_path / "bundle").as_posix() for path in tree_files(tmp_path / "bundle")}
    assert files == {"index.txt", "merged/model.safetensors", "model.onnx", "tokenizer.json"}
    assert workshop.fields(quantised)["settings"]["max_tokens"] == 7


def entry(name: str, size_mb: float = 10.0, cost_ms: float = 5.0, quality: float = 0.9, **figures: float) -> Entry:
    agreement, slower = figures.pop("agreement", 1.0), figures.pop("slower", 1.0)
    return Entry(name, size_mb, Measured(quality, agreement, cost_ms, {"latency_p95_ms": 6.0, **figures}), slower)


ACCURACY = Metric("accuracy")
FLOAT = entry("float32", size_mb=40.0)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, ""),
        ({"quality": 0.89}, ""),
        ({"quality": 0.8899}, "loses 0.0101 on validation, more than 0.01"),
        ({"slower": 1.8}, "slower than float32 (1.80 times as long)"),
        ({"slower": 1.08}, ""),
        ({"slower": 0.5, "size_mb": 41.0}, ""),
        ({"size_mb": 30.5}, "size_mb 30.5 is above the gate's 30"),
        ({"agreement": 0.97}, "the trained model's answer on 0.970 of validation, below the gate's 0.98"),
        ({"latency_p95_ms": 21.0}, "latency_p95_ms 21 is above the gate's 20"),
        ({"tokens_per_s": 4.0}, "tokens_per_s 4 is below the gate's 5"),
    ],
)
def test_reasons(figures: dict[str, float], said: str) -> None:
    gates = {"size_mb": {"at_most": 30}, "latency_p95_ms": {"at_most": 20}, "parity": {"at_least": 0.98}}
    gates |= {"tokens_per_s": {"at_least": 5}, "accuracy": {"at_least": 1.0}, "champion": {"no_worse_by": 0}}
    if figures.get("size_mb", 0) >= 40:
        gates = {}
    assert "; ".join(reasons(entry("int8", **figures), FLOAT, 0.9, ACCURACY, 0.01, gates)) == said


def test_slower_by_what_nobody_feels_is_not_slower() -> None:
    quick = entry("float32", cost_ms=0.2)
    assert reasons(entry("int8", slower=2.0), quick, 0.9, ACCURACY, 0.01, {}) == []


def test_a_change_on_the_same_rows_is_told_with_its_interval() -> None:
    chance = np.random.default_rng(3)
    theirs = (chance.random(2000) < 0.9).astype(float)
    ours = np.where(chance.random(2000) < 0.02, 1 - theirs, theirs)
    mean, low, high = paired(ours, theirs)
    assert low < mean < high < 0 and mean == pytest.approx((ours - theirs).mean())
    assert high - low < 0.02, "two intervals of their own would be twice as wide"
    assert paired(theirs, theirs) == (0.0, 0.0, 0.0)


def test_the_front_holds_what_no_other_beats() -> None:
    points = [(10.0, 0.9), (20.0, 0.9), (5.0, 0.8), (30.0, 0.95), (4.0, 0.7), (6.0, 0.75)]
    assert front(points, ACCURACY) == [(4.0, 0.7), (5.0, 0.8), (10.0, 0.9), (30.0, 0.95)]
    assert front([(1.0, 2.0), (2.0, 1.0), (3.0, 1.5)], Metric("loss", higher=False)) == [(1.0, 2.0), (2.0, 1.0)]


def test_a_loss_may_rise_so_much_and_no_more() -> None:
    loss = Metric("loss", higher=False)
    plain = entry("float32", quality=2.0)
    assert reasons(entry("int8", quality=1.9), plain, 2.0, loss, 0.01, {}) == []
    assert reasons(entry("int8", quality=2.009), plain, 2.0, loss, 0.01, {}) == []
    assert "loses 0.0200" in reasons(entry("int4", quality=2.02), plain, 2.0, loss, 0.01, {})[0]
    assert choose([plain, entry("int8", quality=1.9)], "quality", loss).name == "int8"


def test_choice_goes_by_what_is_preferred_and_noise_does_not_decide() -> None:
    small = entry("small", size_mb=5, cost_ms=5.2, quality=0.88)
    good = entry("good", size_mb=20, cost_ms=5.0, quality=0.91)
    slow = entry("slow", size_mb=4, cost_ms=9.0, quality=0.89)
    every = [good, small, slow]
    assert choose(every, "size", ACCURACY) is slow
    assert choose(every, "quality", ACCURACY) is good
    assert choose(every, "latency", ACCURACY) is small
    assert choose([entry("b"), entry("a")], "size", ACCURACY).name == "a"


def onnx_digests(folder: Path) -> dict[str, str]:
    made = folder / "work" / "candidates"
    return {path.parent.name: file_digest(path) for path in tree_files(made) if path.suffix == ".onnx"}


KILLED = {"candidates": ["float32", {"distil": {"layers": 1, "epochs": 3}}], "max_quality_loss": 1.0}


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Compress in a process of its own."""
    command = [sys.executable, "-m", "tests.test_compress", str(folder)]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})


def kill_after_first_work(folder: Path, longer_s: float) -> bool:
    """Kill compress some time after it has written something new; False when it ended before."""
    child = start(folder)
    marks = len(list((folder / "work").rglob("*")))
    while len(list((folder / "work").rglob("*"))) == marks and child.poll() is None:
        time.sleep(0.01)
    time.sleep(longer_s)
    alive = child.poll() is None
    child.kill()
    child.wait()
    return alive


def killed_compress(folder: Path, kills: int, seed: int, longest_s: float) -> None:
    """An undisturbed run and a killed one leave equal candidates, and bundles that differ in timings only."""
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    undisturbed.mkdir()
    trained_job(undisturbed, checkpoint_every_s=0)
    shutil.copytree(undisturbed, killed)
    dice = random.Random(seed)
    assert sum(kill_after_first_work(killed, dice.uniform(0, longest_s)) for _ in range(kills))
    assert start(killed).wait(240) == 0, (killed / "log").read_text()[-2000:]
    main(undisturbed)
    assert onnx_digests(killed) == onnx_digests(undisturbed)
    bundles = [json.loads((place / "out/bundle/bundle.json").read_text()) for place in (killed, undisturbed)]
    assert bundles[0]["files"]["model.onnx"] == bundles[1]["files"]["model.onnx"]
    assert bundles[0]["settings"] == bundles[1]["settings"]


@pytest.mark.prove
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_ten_times_it_makes_the_same_candidates(tmp_path: Path, seed: int) -> None:
    killed_compress(tmp_path, kills=10, seed=seed, longest_s=4.0)


@pytest.mark.prove
def test_killed_once_it_makes_the_same_candidates(tmp_path: Path) -> None:
    killed_compress(tmp_path, kills=1, seed=3, longest_s=1.0)


def main(folder: Path) -> None:
    """Compress with one thread: their number decides the last bits of sums."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shutil.rmtree(folder / "out", ignore_errors=True)
    CompressStage().run(trained_job(folder, compress=KILLED, checkpoint_every_s=0))
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
