"""Processes that train together: the same losses as one; any number goes on from a checkpoint, after kill -9 too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from llmops.core.errors import DataError, MachineError
from llmops.core.protocols import Job
from llmops.core.report import Report
from llmops.stages.train.stage import TrainStage
from llmops.tasks.text_classification.learner import TextClassifier
from llmops.tasks.text_generation import TextGeneration
from tests.rooms import FakeRoom, places_in
from tests.test_generation_training import instructions_at, learner
from tests.test_train_stage import job_in
from tests.words import TASK, settings, tiny_bert

ROOT = Path(__file__).parent.parent
STEPS = 50
PLAIN = {"dropout": 0.0, "precision": "float32", "steps": STEPS, "epochs": 50, "batch_size": 16, "clip": 1.0}
TOLERANCE = 1e-4


def changes(kind: str, folder: Path) -> dict[str, Any]:
    """The settings of a small training without dropout."""
    if kind == "lora":
        model = {"model": str(tiny_bert(folder / "bert")), "method": "lora", "learning_rate": 1e-2}
        return PLAIN | model | {"encoder_dropout": 0.0}
    return PLAIN | {"model": "transformer", "layers": 2, "learning_rate": 3e-3}


def train(folder: Path, kind: str = "transformer", **more: Any) -> tuple[Job, Report]:
    job = job_in(folder, **(changes(kind, folder.parent) | more))
    return job, TrainStage().run(job)


def losses(report: Report) -> np.ndarray:
    """The loss of every step."""
    curve = next(curve for curve in report.curves if curve.title == "Loss")
    return np.array([loss for _, loss in curve.lines["loss"]])


def answers(job: Job) -> np.ndarray:
    """The trained model's logits of the validation rows."""
    learner = TextClassifier(TASK, settings(), 1)
    learner.load(job.room.out / "model")
    return learner.predict(job.inputs["dataset"], "valid")


def assert_same(one: tuple[Job, Report], other: tuple[Job, Report]) -> None:
    first, second = losses(one[1]), losses(other[1])
    assert len(first) == len(second) == STEPS
    assert np.abs(first - second).max() < TOLERANCE
    assert first[0] > 1.5 * first[-1], "a training that learns nothing shows nothing"
    # weights that change no answer (a key's bias) drift with rounding; answers don't
    np.testing.assert_allclose(answers(one[0]), answers(other[0]), atol=10 * TOLERANCE)


@pytest.mark.parametrize("kind", ["transformer", "lora"])
@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_train_as_one_does(tmp_path: Path, kind: str, shard: bool) -> None:
    alone = train(tmp_path / "alone", kind)
    job, report = together = train(tmp_path / "together", kind, processes=2, shard=shard)
    assert_same(alone, together)
    assert report.numbers["processes"] == 2
    room: Any = job.room
    assert [bar.updates[-1][0] for bar in room.bars] == [STEPS]
    assert [event["epoch"] for event in room.events if event["event"] == "train.epoch"]
    np.testing.assert_allclose(alone[1].numbers["valid_accuracy"], report.numbers["valid_accuracy"])


def writer_in(folder: Path, **changes: Any) -> Job:
    """A training of a small Llama whose heads are as wide as the kernels want them."""
    shape = {"width": 64, "layers": 2, "heads": 4, "learning_rate": 3e-3}
    made = learner("instructions", **(PLAIN | {"batch_size": 4} | shape | changes))
    sections = {"task": made.section, "train": made.settings}
    inputs = {"dataset": instructions_at(folder / "dataset")}
    return Job("demo", sections, TextGeneration(), inputs, FakeRoom(folder), places_in(folder), seed=1)


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_train_a_model_that_writes_as_one_does(tmp_path: Path, shard: bool) -> None:
    alone = TrainStage().run(writer_in(tmp_path / "alone"))
    together = TrainStage().run(writer_in(tmp_path / "together", processes=2, shard=shard))
    first, second = losses(alone), losses(together)
    assert len(first) == len(second) == STEPS and first[0] > 1.5 * first[-1]
    assert np.abs(first - second).max() < TOLERANCE
    np.testing.assert_allclose(alone.numbers["valid_loss"], together.numbers["valid_loss"], atol=TOLERANCE)


ORDERED = """
import sys
from pathlib import Path
from tests.test_together import train
train(Path(sys.argv[1]), processes=2, shard=sys.argv[2] == "True", checkpoint_every_s=0)
"""


def killed_after(folder: Path, shard: bool, step: int) -> None:
    """Order a training of two processes, and kill -9 who ordered it when there is a checkpoint of `step` or later."""
    going = subprocess.Popen([sys.executable, "-c", ORDERED, str(folder), str(shard)], cwd=ROOT)
    try:
        until(lambda: list((folder / "work" / "checkpoints").glob(f"step-0000000[{step // 10}-4]*.json")), 120)
        others = psutil.Process(going.pid).children(recursive=True)
        assert len(others) >= 3, "torchrun and two workers"
    finally:
        os.kill(going.pid, signal.SIGKILL)
        going.wait()
    until(lambda: not any(other.is_running() and other.status() != psutil.STATUS_ZOMBIE for other in others), 30)


def until(holds: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


@pytest.mark.parametrize("shard", [False, True])
def test_one_process_goes_on_where_two_were_killed(tmp_path: Path, shard: bool) -> None:
    alone = train(tmp_path / "alone")
    killed_after(tmp_path / "together", shard, 20)
    resumed = train(tmp_path / "together", shard=shard, checkpoint_every_s=0)
    assert_same(alone, resumed)
    said = next(line for line in resumed[0].room.said if "carrying on" in line)  # type: ignore[attr-defined]
    assert int(said.split("step ")[1].split()[0]) >= 16
    assert resumed[1].numbers["processes"] == 1


def test_what_a_worker_refuses_is_refused_here_in_the_same_words(tmp_path: Path) -> None:
    job = job_in(tmp_path, **changes("transformer", tmp_path), processes=2)
    (job.inputs["dataset"] / "train.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="cannot be read") as told:
        TrainStage().run(job)
    assert told.value.mistakes[0].do == "run prepare again."


def test_workers_that_end_without_a_word_are_a_machine_error_with_their_last_words(tmp_path: Path) -> None:
    job = job_in(tmp_path, **changes("transformer", tmp_path), processes=2)
    (job.inputs["dataset"] / "tokenizer.json").write_text(json.dumps({"no": "tokenizer"}))
    with pytest.raises(MachineError, match="ended without a model") as told:
        TrainStage().run(job)
    assert "Error" in told.value.mistakes[0].snippet
    assert not (job.room.out / "model").exists()
