"""Training on a GPU: float32 and bfloat16, memory that runs out, batches that fit, resume, compiling, sharing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmops.core.protocols import Job
from llmops.core.report import Report
from llmops.engine.fit import fit
from llmops.engine.memory import limit_mb
from llmops.stages.train.stage import TrainStage
from llmops.tasks.text_classification.learner import TextClassifier
from tests.rooms import FakeRoom
from tests.test_engine import Line, section
from tests.test_train_stage import job_in
from tests.words import TASK, settings, tiny_bert

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")

SMALL = {"model": "transformer", "layers": 2, "width": 64, "epochs": 4, "learning_rate": 3e-3, "dropout": 0.0}


def train(folder: Path, **changes: Any) -> tuple[Job, Report]:
    job = job_in(folder, **(SMALL | {"device": "cuda", "precision": "float32"} | changes))
    return job, TrainStage().run(job)


def answers(job: Job) -> np.ndarray:
    learner = TextClassifier(TASK, settings(device="cpu"), 1)
    learner.load(job.room.out / "model")
    learner.settings = learner.settings.model_copy(update={"device": "cpu"})
    return learner.predict(job.inputs["dataset"], "valid")


def test_a_gpu_trains_what_a_cpu_does(tmp_path: Path) -> None:
    one, report = train(tmp_path / "gpu")
    other, _ = train(tmp_path / "cpu", device="cpu")
    np.testing.assert_allclose(answers(one), answers(other), atol=0.05)
    assert report.numbers["valid_accuracy"] > 0.9  # type: ignore[operator]
    assert 0 < report.numbers["utilisation"] < 1  # type: ignore[operator]
    assert 0 < report.numbers["peak_memory_mb"] < 2000  # type: ignore[operator]


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bfloat16"}, {"precision": "auto"}, {"compile": True}, {"model": "bert", "method": "lora"}],
)
def test_other_ways_to_compute_learn_as_well(tmp_path: Path, changes: dict[str, Any]) -> None:
    if changes.get("model") == "bert":
        changes = changes | {"model": str(tiny_bert(tmp_path / "bert")), "learning_rate": 1e-2, "epochs": 12}
    job, report = train(tmp_path / "run", **changes)
    assert report.numbers["valid_accuracy"] > 0.9  # type: ignore[operator]
    assert answers(job).dtype == np.float32


def test_auto_measures_and_says_what_it_took(tmp_path: Path) -> None:
    job, report = train(tmp_path, batch_size="auto", precision="auto", width=256)
    room: Any = job.room
    assert any("batch size" in line for line in room.said)
    assert report.numbers["batch_size"] >= 8  # type: ignore[operator]
    assert report.numbers["precision"] in ("float32", "bfloat16")


class Greedy(Line):
    """Each row of a batch takes 40 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.network.cuda()
        self.x, self.y = self.x.cuda(), self.y.cuda()

    def loss(self, rows: np.ndarray) -> torch.Tensor:
        wide = self.x[rows].repeat(1, 2_500_000)
        return super().loss(rows) + 0.0 * wide.sum()


def test_memory_that_runs_out_halves_the_batch_and_the_training_goes_on(tmp_path: Path) -> None:
    room = FakeRoom(tmp_path)
    torch.cuda.empty_cache()
    free = torch.cuda.memory_reserved() + 250e6  # six rows
    torch.cuda.set_per_process_memory_fraction(free / 1e6 / limit_mb(torch.device("cuda")))
    try:
        state = fit(Greedy(), section(epochs=2, batch_size=8), 3, room.work, room)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert state.parts == 2
    assert "parts from here on" in room.said[0]
    assert len(state.history) == 2


def test_a_training_on_a_gpu_is_taken_up(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole")
    room = FakeRoom(tmp_path / "broken")

    class Interrupted(Exception):
        pass

    def listener(epoch: int, metrics: dict[str, float]) -> bool:
        if epoch == 2:
            raise Interrupted
        return False

    section = settings(**(SMALL | {"device": "cuda", "precision": "float32", "checkpoint_every_s": 0}))
    learner = TextClassifier(TASK, section, 1)
    with pytest.raises(Interrupted):
        learner.train(whole.inputs["dataset"], room.work, room, listener)
    again = TextClassifier(TASK, section, 1)
    again.train(whole.inputs["dataset"], room.work, room)
    assert "carrying on" in room.said[0]
    found = again.predict(whole.inputs["dataset"], "valid")
    np.testing.assert_allclose(found, answers(whole), atol=0.05)


def test_one_gpu_shares_with_itself(tmp_path: Path) -> None:
    job, report = train(tmp_path, shard=True, precision="auto")
    assert report.numbers["valid_accuracy"] > 0.9  # type: ignore[operator]
    assert answers(job).shape[0] == 24
