"""Tune: the space is checked against `train:`, bad trials stop, a killed search carries on to the same trials.

A stand-in learner "trains" along a curve that its settings decide, so that dozens of trials take a second;
tests/test_kills.py kills the whole command with a real one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.core.artifact import tree_digest, write_json
from llmops.core.errors import MachineError
from llmops.core.protocols import Job, Metric
from llmops.core.report import Report
from llmops.engine.ragged import Ragged
from llmops.stages.tune import looks
from llmops.stages.tune.config import TuneSection
from llmops.stages.tune.looks import Plan, planned
from llmops.stages.tune.pruning import below_median, falls_behind, hopeless
from llmops.stages.tune.space import grid, own_picks
from llmops.stages.tune.stage import TuneStage
from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
from tests.rooms import FakeRoom, places_in
from tests.test_compress import trained_job

ROOT = Path(__file__).parent.parent
PAUSE_S = float(os.environ.get("TEST_TUNE_PAUSE_S", "0"))
LEARNING_RATE = {"learning_rate": {"log": [1e-5, 1e-2]}}
WIDE = {
    **LEARNING_RATE,
    "dropout": {"uniform": [0.0, 0.5]},
    "epochs": {"uniform": [2, 6]},
    "schedule": {"choice": ["linear", "cosine"]},
}


@dataclass
class CurveLearner:
    """A stand-in: its metric rises over the epochs towards a height that depends on its settings."""

    train_section: TextTrainSection
    seed: int

    def train(self, dataset: Path, work: Path, room: Any, listener: Any = None) -> dict[str, Any]:
        work.mkdir(parents=True, exist_ok=True)
        checkpoint = work / "checkpoint.json"
        history = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
        train = self.train_section
        if train.batch_size > 1000:
            raise MachineError("not enough memory for the batch")
        height = 0.9 - 0.1 * abs(train.learning_rate - 1e-3) / 1e-3**0.9 - 0.2 * train.dropout
        for epoch in range(len(history) + 1, train.epochs + 1):
            time.sleep(PAUSE_S)
            history.append({"accuracy": max(0.0, height * (1 - 0.5**epoch))})
            over = listener is not None and listener(epoch, history[-1])
            # afterwards, as the engine does: an epoch that is on disk has been judged
            write_json(checkpoint, history)
            if over:
                break
        best = max(history, key=lambda row: row["accuracy"])
        return {"metrics": best, "history": history, "machine": {"precision": "float32"}}

    def save(self, folder: Path) -> None:
        write_json(folder / "model.json", self.train_section.plain())


class CurveTask:
    """The task of the stand-in; it has the real config blocks."""

    name = "text-classification"
    version = 1
    section = TextClassificationSection
    train_section = TextTrainSection

    def encoding(self, train: TextTrainSection) -> dict[str, Any]:
        return {"model": train.model, "vocabulary": train.vocabulary}

    def metric(self, section: Any) -> Metric:
        return Metric("accuracy")

    def learner(self, section: Any, train: TextTrainSection, seed: int) -> CurveLearner:
        return CurveLearner(train, seed)

    def thinned(self, dataset: Path, share: float, folder: Path) -> bool:
        return False


def sections(space: dict[str, Any], **settings: Any) -> dict[str, Any]:
    train = TextTrainSection(epochs=4, learning_rate=3e-4)
    return {"tune": TuneSection(space=space, **settings), "train": train, "task": TextClassificationSection()}


def job_in(folder: Path, blocks: dict[str, Any]) -> Job:
    """A job whose train model is the stand-in, trained with the config's own settings."""
    room = FakeRoom(folder)
    model = folder / "train-model"
    if not model.exists():
        learner = CurveLearner(blocks["train"], 7)
        found = learner.train(folder, folder / "own", room)
        learner.save(model)
        write_json(model / "history.json", found)
    return Job("demo", blocks, CurveTask(), {"dataset": folder, "model": model}, room, places_in(folder), seed=7)  # type: ignore[arg-type]


def tuned(folder: Path, space: dict[str, Any], **settings: Any) -> tuple[Any, Job]:
    job = job_in(folder, sections(space, **settings))
    return TuneStage().run(job), job


def trial_rows(report: Any) -> list[list[Any]]:
    return [row for table in report.tables for row in table.rows]


def checked(space: dict[str, Any]) -> list[Any]:
    return TuneStage().check(sections(space), CurveTask(), places_in(Path("/nowhere")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("space", "what", "do"),
    [
        ({"learning_rte": {"log": [1e-4, 1e-3]}}, "`learning_rte` is not a setting", "`learning_rate`"),
        ({"model": {"choice": ["text-cnn", "bilstm"]}}, "`model` decides how the data set is encoded", "leave it out"),
        ({"vocabulary": {"uniform": [100, 200]}}, "`vocabulary` decides", "leave it out"),
        ({"schedule": {"uniform": [0, 1]}}, "`schedule` is not a number", "choice"),
        ({"epochs": {"uniform": [1.5, 4]}}, "whole numbers", "whole numbers"),
        ({"dropout": {"uniform": [0.0, 1.5]}}, "cannot be 1.5", "train.dropout"),
        ({"schedule": {"choice": ["linear", "zigzag"]}}, "cannot be 'zigzag'", "train.schedule"),
        ({"learning_rate": {"choice": ["fast"]}}, "cannot be 'fast'", "train.learning_rate"),
    ],
)
def test_check_names_the_mistake_and_the_way_out(space: dict[str, Any], what: str, do: str) -> None:
    (mistake,) = checked(space)
    assert what in mistake.what
    assert do in mistake.do
    assert mistake.where == f"tune.space.{next(iter(space))}"


def test_check_takes_a_good_space_and_tells_all_mistakes_at_once() -> None:
    assert checked(WIDE) == []
    assert len(checked({"nonsense": {"choice": [1]}, "dropout": {"uniform": [-1, 2]}})) == 3


def test_trial_0_is_the_trained_model_and_is_not_trained_again(tmp_path: Path) -> None:
    report, job = tuned(tmp_path, LEARNING_RATE, trials=1)
    (row,) = trial_rows(report)
    known = json.loads((job.inputs["model"] / "history.json").read_text())
    assert row[0] == 0 and row[1] == 3e-4
    assert row[2] == known["metrics"]["accuracy"]
    assert row[3] == 4
    assert not (job.room.work / "tune" / "trial-0000").exists()
    assert tree_digest(job.room.out / "model") == tree_digest(job.inputs["model"])


@pytest.mark.parametrize(("asked", "got"), [("auto", "bfloat16"), ("float32", "float32")])
def test_trials_compute_as_precisely_as_the_trained_model_did(tmp_path: Path, asked: str, got: str) -> None:
    blocks = sections(LEARNING_RATE, trials=8, pruner="none")
    blocks["train"] = blocks["train"].model_copy(update={"precision": asked})
    job = job_in(tmp_path, blocks)
    told = job.inputs["model"] / "history.json"
    write_json(told, {**json.loads(told.read_text()), "precision": "bfloat16"})
    assert TuneStage().run(job).numbers["replaced"] is True
    assert json.loads((job.room.out / "model" / "model.json").read_text())["precision"] == got


def test_a_model_without_its_history_is_trained_once_more(tmp_path: Path) -> None:
    job = job_in(tmp_path, sections(LEARNING_RATE, trials=1))
    known = json.loads((job.inputs["model"] / "history.json").read_text())
    (job.inputs["model"] / "history.json").unlink()
    report = TuneStage().run(job)
    assert trial_rows(report)[0][2] == known["metrics"]["accuracy"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_better_trial_replaces_the_model(tmp_path: Path, sampler: str) -> None:
    report, job = tuned(tmp_path, LEARNING_RATE, trials=8, sampler=sampler, grid_points=7, pruner="none")
    values = [row[2] for row in trial_rows(report)]
    assert len(values) == 8
    assert report.numbers["replaced"] is True
    assert report.numbers["valid_accuracy"] == max(values) > values[0] == report.numbers["valid_accuracy_trained"]
    won = json.loads((job.room.out / "model" / "model.json").read_text())
    best = trial_rows(report)[values.index(max(values))]
    assert won["learning_rate"] == best[1]
    told = json.loads((job.room.out / "model" / "history.json").read_text())
    assert told["metrics"]["accuracy"] == max(values)
    curve = [y for _, y in report.curves[0].lines["best"]]
    assert curve == [max(values[: n + 1]) for n in range(8)]


class LossLearner(CurveLearner):
    """The same curve turned around: a loss."""

    def train(self, dataset: Path, work: Path, room: Any, listener: Any = None) -> dict[str, Any]:
        def turned(epoch: int, metrics: dict[str, float]) -> bool:
            return listener is not None and listener(epoch, {"loss": 1 - metrics["accuracy"]})

        found = super().train(dataset, work, room, turned)
        history = [{"loss": 1 - row["accuracy"]} for row in found["history"]]
        return found | {"metrics": min(history, key=lambda row: row["loss"]), "history": history}


class LossTask(CurveTask):
    """The task of the turned stand-in: lower is better."""

    def metric(self, section: Any) -> Metric:
        return Metric("loss", higher=False)

    def learner(self, section: Any, train: TextTrainSection, seed: int) -> CurveLearner:
        return LossLearner(train, seed)


@pytest.mark.parametrize("pruner", ["none", "median", "halving"])
def test_of_losses_the_lowest_wins_and_the_high_ones_are_stopped(tmp_path: Path, pruner: str) -> None:
    blocks = sections(LEARNING_RATE, trials=8, sampler="tpe", pruner=pruner)
    job = job_in(tmp_path, blocks)
    (job.inputs["model"] / "history.json").unlink()  # it tells of another task
    report = TuneStage().run(replace(job, task=LossTask()))  # type: ignore[arg-type]
    rows = trial_rows(report)
    done = [row[2] for row in rows if row[4].startswith(("done", "the trained model"))]
    assert report.numbers["valid_loss"] == min(done) < rows[0][2] == report.numbers["valid_loss_trained"]
    assert all(row[2] >= min(done) for row in rows)
    won = json.loads((job.room.out / "model" / "history.json").read_text())
    assert won["metrics"]["loss"] == min(done)
    curve = [y for _, y in report.curves[0].lines["best"]]
    assert curve == sorted(curve, reverse=True)


def test_of_losses_and_accuracies_the_same_trials_are_done(tmp_path: Path) -> None:
    """Turned around, the search must draw, stop and win alike."""
    own, _ = tuned(tmp_path / "own", WIDE, trials=10, sampler="tpe", pruner="halving")
    blocks = sections(WIDE, trials=10, sampler="tpe", pruner="halving")
    other = job_in(tmp_path / "other", blocks)
    (other.inputs["model"] / "history.json").unlink()
    turned = TuneStage().run(replace(other, task=LossTask()))  # type: ignore[arg-type]
    assert [row[1:5] for row in trial_rows(turned)][1:] == [row[1:5] for row in trial_rows(own)][1:]
    assert [row[-2:] for row in trial_rows(turned)][1:] == [row[-2:] for row in trial_rows(own)][1:]


def test_an_equal_trial_does_not_replace_the_model(tmp_path: Path) -> None:
    """weight_decay changes nothing on the stand-in's curve: all trials tie."""
    report, job = tuned(
        tmp_path, {"weight_decay": {"choice": [0.0, 0.1, 0.2]}}, trials=4, sampler="grid", pruner="none"
    )
    assert len({row[2] for row in trial_rows(report)}) == 1
    assert report.numbers["replaced"] is False
    link, origin = job.room.out / "model" / "model.json", job.inputs["model"] / "model.json"
    assert link.samefile(origin)


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_bad_trials_are_really_stopped(tmp_path: Path, pruner: str) -> None:
    report, _ = tuned(tmp_path, LEARNING_RATE, trials=8, sampler="random", pruner=pruner)
    stopped = [row for row in trial_rows(report) if row[4].startswith("stopped")]
    assert stopped and report.numbers["trials_stopped"] == len(stopped)
    assert all(row[3] < 4 for row in stopped)
    assert report.numbers["epochs_saved"] == sum(4 - row[3] for row in stopped)
    best = max(row[2] for row in trial_rows(report) if not row[4].startswith("stopped"))
    assert report.numbers["valid_accuracy"] == best


def test_without_a_pruner_nothing_is_stopped(tmp_path: Path) -> None:
    report, _ = tuned(tmp_path, LEARNING_RATE, trials=4, sampler="random", pruner="none")
    assert report.numbers["trials_stopped"] == 0
    assert all(row[3] == 4 for row in trial_rows(report))


def test_whole_numbers_stay_whole_and_values_stay_in_the_space(tmp_path: Path) -> None:
    report, _ = tuned(tmp_path, WIDE, trials=9, sampler="tpe")
    for _, rate, dropout, epochs, schedule, *_ in trial_rows(report)[1:]:
        assert 1e-5 <= rate <= 1e-2
        assert 0 <= dropout <= 0.5
        assert isinstance(epochs, int) and 2 <= epochs <= 6
        assert schedule in ("linear", "cosine")


def test_settings_that_were_tried_are_not_trained_again(tmp_path: Path) -> None:
    report, _ = tuned(
        tmp_path, {"schedule": {"choice": ["linear", "cosine"]}}, trials=6, sampler="random", pruner="none"
    )
    rows = trial_rows(report)
    assert len(rows) == 6
    assert sum(row[3] > 0 for row in rows) == 2
    assert all("same settings as trial" in row[4] for row in rows if row[3] == 0)


def test_a_trial_that_cannot_run_here_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    space = {"batch_size": {"choice": [16, 2000, 64]}}
    report, _ = tuned(tmp_path, space, trials=4, sampler="grid", pruner="none")
    ends = {row[1]: row[4] for row in trial_rows(report)}
    assert ends[2000] == "failed: not enough memory for the batch"
    assert ends[16] == ends[64] == "done"


def test_the_budget_in_seconds_starts_no_trial_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PAUSE_S", 0.05)
    began = time.monotonic()
    report, job = tuned(tmp_path, LEARNING_RATE, trials=1000, seconds=0.6, sampler="random", pruner="none")
    assert time.monotonic() - began < 5
    rows = trial_rows(report)
    assert 1 < len(rows) < 20
    assert all("out of time" not in row[4] for row in rows[:-1])
    assert json.loads((job.room.work / "tune" / "clock.json").read_text())["spent_s"] >= 0.6


@pytest.mark.parametrize(("seconds", "look_s", "way"), [
    (60.0, 6.0, "looks"), (60.0, 25.0, "nothing"), (60.0, 1.0, "full"), (None, 99.0, "full"), (600.0, 6.0, "full"),
])  # fmt: skip
def test_what_a_budget_allows(seconds: float | None, look_s: float, way: str) -> None:
    plan = planned(seconds, 20, look_s, 10 * look_s)
    assert plan.way == way
    if seconds is not None:
        assert plan.looks == min(20, int(seconds / look_s)) and plan.full == min(20, int(seconds / look_s / 10))


def looking(folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, **train: Any) -> tuple[Job, Report]:
    """Tune with looks on a real small model, and a plan that no clock decides."""
    monkeypatch.setattr(looks, "planned", lambda *_: plan)
    space = {"learning_rate": {"choice": [1e-6, 3e-3, 1e-2, 3e-2]}}
    made = trained_job(folder, "bag-of-words", **{"epochs": 4, "learning_rate": 1e-5, **train})
    tune = TuneSection(space=space, trials=max(plan.looks, 4), seconds=600, look=0.4)
    job = replace(made, sections={**made.sections, "tune": tune})
    return job, TuneStage().run(job)


def test_many_looks_at_few_rows_and_one_training_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, report = looking(tmp_path, Plan(1, 8), monkeypatch)
    assert (report.numbers["looks"], report.numbers["trials"], report.numbers["replaced"]) == (8, 2, True)
    assert report.numbers["valid_accuracy"] > report.numbers["valid_accuracy_trained"]
    assert "looks at few rows" in report.headline and report.tables[1].title == "Looks at 40% of the rows"
    part, whole = (Ragged.read(folder / "train.safetensors") for folder in (tmp_path / "work" / "tune" / "rows",
                                                                            job.inputs["dataset"]))  # fmt: skip
    assert len(part) == pytest.approx(0.4 * len(whole), abs=2)
    assert np.bincount(part.labels).min() > 0
    told = [line for line in job.room.said if "the best is then trained in full" in line]  # type: ignore[attr-defined]
    assert told, "what the budget allows is said beforehand"


def test_looks_that_find_nothing_better_train_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, report = looking(tmp_path, Plan(1, 4), monkeypatch, learning_rate=1e-5, epochs=1)
    assert report.numbers["looks"] == 4


def test_a_budget_for_two_trials_is_no_search_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, report = looking(tmp_path, Plan(0, 2), monkeypatch)
    assert (report.numbers["looks"], report.numbers["trials"], report.numbers["replaced"]) == (1, 1, False)
    assert report.headline.startswith("no search: 600 s allow 2 looks") and report.warnings


def test_seconds_spent_before_a_kill_count(tmp_path: Path) -> None:
    job = job_in(tmp_path, sections(LEARNING_RATE, trials=1000, seconds=30))
    write_json(job.room.work / "tune" / "clock.json", {"spent_s": 31.0})
    assert len(trial_rows(TuneStage().run(job))) == 1


def test_median_stops_below_the_median_only() -> None:
    earlier = [{1: 0.5, 2: 0.6}, {1: 0.7, 2: 0.8}, {1: 0.6}]
    assert below_median({1: 0.59}, earlier)
    assert not below_median({1: 0.6}, earlier)
    assert not below_median({1: 0.1}, earlier[:1])
    assert not below_median({1: 0.75, 2: 0.1}, earlier)


def test_halving_looks_at_its_rungs_only() -> None:
    earlier = [{1: v, 2: v, 3: v} for v in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert falls_behind({1: 0.79}, earlier)
    assert not falls_behind({1: 0.8}, earlier)
    assert not falls_behind({1: 0.9, 2: 0.0}, earlier)
    assert falls_behind({1: 0.9, 2: 0.9, 3: 0.7}, earlier)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.lists(st.floats(0, 1), max_size=12))
def test_the_best_trial_so_far_is_never_stopped(mine: list[float], others: list[float]) -> None:
    values = {epoch: 1.0 + value for epoch, value in enumerate(mine, start=1)}
    earlier = [dict.fromkeys(range(1, 9), value) for value in others]
    assert not hopeless("median", values, earlier)
    assert not hopeless("halving", values, earlier)


def test_grid_spans_every_axis() -> None:
    tune = TuneSection(
        space={
            "learning_rate": {"log": [1e-4, 1e-2]},
            "epochs": {"uniform": [2, 4]},
            "method": {"choice": ["full", "lora"]},
        }
    )
    rows = grid(tune.space, TextTrainSection, 3)
    assert len(rows) == 3 * 3 * 2
    assert {row["epochs"] for row in rows} == {2, 3, 4}
    assert sorted({row["learning_rate"] for row in rows}) == pytest.approx([1e-4, 1e-3, 1e-2])


def test_own_settings_outside_the_space_tell_the_sampler_nothing() -> None:
    tune = TuneSection(space={"learning_rate": {"log": [1e-3, 1e-2]}, "schedule": {"choice": ["cosine", "linear"]}})
    assert own_picks(tune.space, TextTrainSection(learning_rate=3e-4)) == {"schedule": 1}


def facts(folder: Path) -> list[tuple[Any, ...]]:
    """All that must be equal between an undisturbed and a killed search."""
    import optuna

    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{folder / 'work/tune/study.db'}")
    return [(t.number, t.state.name, t.params, t.value, t.intermediate_values, t.user_attrs) for t in study.trials]


def kill_until_done(folder: Path, seed: int, kills: int) -> int:
    """Run the search in a process of its own, killing it `kills` times; returns the kills that hit."""
    chance, hit = random.Random(seed), 0
    for turn in range(kills + 1):
        log = (folder / "log").open("ab")
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.test_tune", str(folder)],
            stdout=log,
            stderr=log,
            env={**os.environ, "TEST_TUNE_PAUSE_S": "0.03", "PYTHONPATH": str(ROOT)},
        )
        if turn < kills:
            database = folder / "work/tune/study.db"
            while not database.exists() and child.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.uniform(0.0, 1.2))
            if child.poll() is None:
                hit += 1
                child.send_signal(signal.SIGKILL)
        child.wait(120)
        log.close()
    assert child.returncode == 0, (folder / "log").read_text()[-2000:]
    return hit


def killed_search(tmp_path: Path, kills: int, seed: int) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    main(undisturbed)
    assert kill_until_done(killed, seed, kills) > 0
    assert facts(killed) == facts(undisturbed)
    assert tree_digest(killed / "out/model") == tree_digest(undisturbed / "out/model")


def test_killed_search_carries_on_to_the_same_trials(tmp_path: Path) -> None:
    killed_search(tmp_path, kills=2, seed=1)


@pytest.mark.prove
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_ten_times_it_still_does_the_same_trials(tmp_path: Path, seed: int) -> None:
    killed_search(tmp_path, kills=10, seed=seed)


def main(folder: Path) -> None:
    tuned(folder, WIDE, trials=10, sampler="tpe", pruner="halving")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
