"""The train stage: the artifact, the report with its table, curves and foreseen figures, and resume."""

from __future__ import annotations

import json
from pathlib import Path

from llmops.core.protocols import Job, Metric
from llmops.core.report import Report
from llmops.stages.train.stage import TrainStage, foreseen_peak, headline, warnings
from llmops.tasks import find
from tests.rooms import FakeRoom, places_in
from tests.words import TASK, dataset, settings

TASK_KIND = find("text-classification")
ESTIMATE = {"train_s": 2.0, "train_s_upper": 1e6, "epoch_s": 0.5, "peak_memory_mb": 50_000.0}


def job_in(folder: Path, **changes: object) -> Job:
    train = settings(**changes)
    brief = folder / "brief.json"
    folder.mkdir(parents=True, exist_ok=True)
    brief.write_text(json.dumps({"baseline": {"metric": "accuracy", "valid": 0.5}, "estimate": ESTIMATE}))
    inputs = {"dataset": dataset(folder, train), "brief": brief}
    return Job("demo", {"task": TASK, "train": train}, TASK_KIND, inputs, FakeRoom(folder), places_in(folder), seed=1)


def test_train_writes_the_model_and_sets_actual_beside_predicted(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    report = TrainStage().run(job)
    model = job.room.out / "model"
    assert {"model.safetensors", "model.json", "tokenizer.json"} <= {path.name for path in model.iterdir()}
    numbers = report.numbers
    assert numbers["valid_accuracy"] > 0.9  # type: ignore[operator]
    assert numbers["baseline_valid"] == 0.5
    assert numbers["predicted_s"] == 2.0
    assert numbers["predicted_epoch_s"] == 0.5
    assert numbers["predicted_peak_memory_mb"] == 50_000.0
    assert numbers["took_s"] > 0  # type: ignore[operator]
    assert 0 < numbers["epoch_s"] <= numbers["took_s"] / 3  # type: ignore[operator]
    epochs = next(table for table in report.tables if table.title == "Epochs")
    assert [row[0] for row in epochs.rows] == [1, 2, 3]
    assert {curve.title for curve in report.curves} == {
        "Loss",
        "accuracy on validation",
        "Learning rate",
        "Throughput",
        "Memory",
    }
    assert all(points for curve in report.curves for points in curve.lines.values())
    assert Report.read(json.loads(json.dumps(report.plain()))).markdown("train").startswith("# train")


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    TrainStage().run(job)
    first = (job.room.out / "model" / "model.safetensors").read_bytes()
    report = TrainStage().run(job)
    assert (job.room.out / "model" / "model.safetensors").read_bytes() == first
    assert any("carrying on" in line for line in job.room.said)  # type: ignore[attr-defined]
    assert report.numbers["epochs"] == 3


def test_what_changes_nothing_in_the_result_is_no_reason_to_train_again(tmp_path: Path) -> None:
    stage, places = TrainStage(), places_in(tmp_path)
    one, other, third = (
        stage.depends({"task": TASK, "train": settings(**changes)}, TASK_KIND, places).settings
        for changes in ({}, {"checkpoint_every_s": 1}, {"learning_rate": 0.5})
    )
    assert one == other
    assert one != third


def test_a_model_folder_that_is_not_there_is_seen_before_any_work(tmp_path: Path) -> None:
    sections = {"task": TASK, "train": settings(model=str(tmp_path / "nothing"))}
    (mistake,) = TrainStage().check(sections, TASK_KIND, places_in(tmp_path))
    assert "There is no model in the folder" in mistake.what
    assert mistake.do
    assert TrainStage().check({"task": TASK, "train": settings()}, TASK_KIND, places_in(tmp_path)) == []


FRESH = {"base": None, "not_updated": ""}
"""A training that is no update."""


def test_what_deserves_an_eye_is_said() -> None:
    history = [{"accuracy": 0.5}, {"accuracy": 0.6}]
    result = {
        "metrics": {"accuracy": 0.6},
        "seconds": 9.0,
        "best_epoch": 2,
        "epochs": 2,
        "history": history,
        "curve": [1],
    } | FRESH
    accuracy = Metric("accuracy")
    told = warnings(accuracy, result, {"baseline_valid": 0.7, "predicted_upper_s": 5.0})
    assert [word in line for word, line in zip(("baseline", "upper bound", "more epochs"), told, strict=True)] == [
        True
    ] * 3
    assert (
        warnings(accuracy, {**result, "history": history[:1] * 2}, {"baseline_valid": None, "predicted_upper_s": None})
        == []
    )
    (refused,) = warnings(
        accuracy,
        {**result, "history": history[:1] * 2, "not_updated": "its run is gone"},
        {"baseline_valid": None, "predicted_upper_s": None},
    )
    assert "its run is gone" in refused


def test_a_loss_that_falls_is_a_model_that_gets_better() -> None:
    history = [{"loss": 2.0}, {"loss": 1.5}]
    result = {
        "metrics": {"loss": 1.5},
        "seconds": 1.0,
        "best_epoch": 2,
        "epochs": 2,
        "history": history,
        "curve": [1],
    } | FRESH
    quiet = {"baseline_valid": 1.6, "predicted_upper_s": None}
    loss = Metric("loss", higher=False)
    (told,) = warnings(loss, result, quiet)
    assert "more epochs" in told
    assert any("baseline is better" in line for line in warnings(loss, result, {**quiet, "baseline_valid": 1.4}))
    assert headline(loss, {**result, "tokens_per_s": 1234.0}, {}).endswith("1,234 tokens/s")
    assert headline(loss, result, {}).endswith("1 s")
    assert "an update of version 4" in headline(loss, {**result, "base": {"version": 4}}, {})


def test_a_local_model_counts_by_its_contents(tmp_path: Path) -> None:
    stage, places = TrainStage(), places_in(tmp_path)
    blocks = {"task": TASK, "train": settings(model=str(tmp_path))}
    assert list(stage.depends(blocks, TASK_KIND, places).files) == [tmp_path]
    assert list(stage.depends({"task": TASK, "train": settings()}, TASK_KIND, places).files) == []


def test_the_foreseen_peak_counts_what_the_process_holds_already() -> None:
    estimate = {"peak_memory_mb": 900.0, "training_memory_mb": 400.0}
    assert foreseen_peak(estimate, 300.0) == 900.0, "a fresh process loads its libraries yet"
    assert foreseen_peak(estimate, 700.0) == 1100.0
    assert foreseen_peak({}, 700.0) is None
