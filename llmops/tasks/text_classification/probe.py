"""Foresees a training's time, memory and disk from a few real steps on real rows."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from llmops.core.artifact import tree_size
from llmops.core.protocols import Room, Row
from llmops.engine.batching import plan_epoch, scoring_batches
from llmops.engine.checkpoint import write_tensors
from llmops.engine.device import seed_everything
from llmops.engine.fit import CHECKPOINT_SHARE, Loop
from llmops.engine.memory import PeakMemory
from llmops.engine.optim import optimiser_tensors
from llmops.engine.ragged import Ragged, first_rows
from llmops.tasks.text_classification.classifier import Classifier
from llmops.tasks.text_classification.encoder import TextEncoder
from llmops.tasks.text_classification.problem import TextProblem

VALID_SHARE = 0.1
"""Of a list of rows, which are all to be trained on, this share is also taken for validation."""
SLACK = 1.5
"""Upper bound over estimate: other processes on the machine, slow batches."""
MIN_STEPS = 4
FROZEN_ROWS = 128
"""Rows whose vectors a frozen encoder computes in a probe."""


@dataclass
class Bench:
    """The training to foresee: the problem, the lengths of all its rows, what setting it up takes."""

    problem: TextProblem
    lengths: np.ndarray
    valid_lengths: np.ndarray
    setup_s: float


def probe(learner: Classifier, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
    """Run real steps for about `seconds`, the longest batch first, and reckon up the planned training.

    `source` is a data set folder, or a list of {"text", "label"} rows that will be trained on. Returns epoch_s,
    train_s (with set-up, encoding a list, evaluation, checkpoints), train_s_upper, peak_memory_mb, parameters,
    disk_mb, rows_per_s. The learner is left as if it had been trained for these few steps.
    """
    with tempfile.TemporaryDirectory(prefix="llmops-probe-") as scratch, PeakMemory() as memory:
        place = Path(scratch)
        bench = set_up(learner, source, place)
        loop = Loop(bench.problem, learner.settings, learner.seed, place / "work", room)
        steps_s, spread = time_epoch(loop, bench, seconds, room)
        epoch_s = steps_s + time_scoring(bench, seconds / 4)
        best_s, checkpoint_s, disk = time_writing(loop, place)
        learner.keep(bench.problem)
        learner.save(place / "model")
        disk += tree_size(place / "model")
    train_s = bench.setup_s + learner.settings.epochs * (epoch_s + best_s)
    pause = max(learner.settings.checkpoint_every_s, CHECKPOINT_SHARE * checkpoint_s, steps_s / loop.steps)
    train_s += checkpoint_s * (1 + train_s / pause)
    return {
        "epoch_s": epoch_s + best_s,
        "train_s": train_s,
        "train_s_upper": train_s * (SLACK + spread),
        "peak_memory_mb": memory.peak_mb,
        "parameters": learner.parameters(),
        "disk_mb": disk / 1e6,
        "rows_per_s": len(bench.lengths) / epoch_s,
    }


def set_up(learner: Classifier, source: Path | list[Row], place: Path) -> Bench:
    """Encode if need be, build the network. A frozen encoder's vectors are computed for a sample, and reckoned up."""
    began = time.perf_counter()
    dataset = source if isinstance(source, Path) else encode(learner, source, place / "dataset")
    seed_everything(learner.seed)
    learner.adopt(dataset)
    train, valid = (Ragged.read(dataset / f"{split}.safetensors") for split in ("train", "valid"))
    if learner.settings.method != "frozen":
        return Bench(learner.pose(train, valid), train.lengths, valid.lengths, time.perf_counter() - began)
    few = first_rows(train, FROZEN_ROWS), first_rows(valid, FROZEN_ROWS)
    problem = learner.pose(*few)
    took = time.perf_counter() - began
    share = (len(train.tokens) + len(valid.tokens)) / sum(len(data.tokens) for data in few)
    return Bench(problem, np.ones(len(train), np.int64), np.ones(len(valid), np.int64), took * share)


def encode(learner: Classifier, rows: list[Row], out: Path) -> Path:
    """A throwaway data set from rows, encoded as prepare would."""
    inside = [row for row in rows if row["label"] != learner.section.outside]
    splits = {"train": inside, "valid": inside[:: round(1 / VALID_SHARE)]}
    TextEncoder(learner.section, learner.settings).prepare(splits, out)
    return out


def time_epoch(loop: Loop, bench: Bench, seconds: float, room: Room) -> tuple[float, float]:
    """Seconds of an epoch's steps, and how much the steps deviate from that reckoning (share of it)."""
    settings, lengths = bench.problem.settings, bench.problem.lengths
    batches = plan_epoch(lengths, settings.batch_size, loop.seed, 1)
    loop.network.train()
    loop.step(max(batches, key=lambda rows: cells(lengths, rows)))
    times: list[float] = []
    sizes: list[int] = []
    with room.progress("probing", total=seconds) as bar:
        for rows in batches * MIN_STEPS:
            began = time.perf_counter()
            loop.step(rows)
            times.append(time.perf_counter() - began)
            sizes.append(cells(lengths, rows))
            bar.update(min(seconds, sum(times)))
            if sum(times) >= seconds and len(times) >= MIN_STEPS:
                break
    fixed, each = line(np.array(sizes), np.array(times))
    planned = [cells(bench.lengths, rows) for rows in plan_epoch(bench.lengths, settings.batch_size, loop.seed, 1)]
    reckoned = fixed + each * np.array(sizes)
    spread = float(np.abs(reckoned - times).mean() / np.mean(times) / np.sqrt(len(times)))
    return fixed * len(planned) + each * sum(planned), spread


def cells(lengths: np.ndarray, rows: np.ndarray) -> int:
    """Size of a padded batch."""
    return len(rows) * int(lengths[rows].max())


def line(sizes: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Least squares of times = fixed + each * sizes, both at least 0; the mean where no line fits."""
    if len(np.unique(sizes)) > 1:
        each, fixed = np.polyfit(sizes, times, 1)
        if each >= 0 and fixed >= 0:
            return float(fixed), float(each)
    return 0.0, float(times.sum() / sizes.sum())


def time_scoring(bench: Bench, seconds: float) -> float:
    """Seconds of one evaluation on all validation rows."""
    data = bench.problem.valid
    bench.problem.network.eval()
    took, done = 0.0, 0
    with torch.inference_mode():
        for rows in scoring_batches(data.lengths):
            began = time.perf_counter()
            bench.problem.network(*bench.problem.batch(data, rows))
            took += time.perf_counter() - began
            done += cells(data.lengths, rows)
            if took >= seconds:
                break
    return took * int(bench.valid_lengths.sum()) / max(1, done)


def time_writing(loop: Loop, place: Path) -> tuple[float, float, float]:
    """Seconds to write the best weights, seconds to write a checkpoint, bytes that a training keeps on disk."""
    began = time.perf_counter()
    write_tensors(place / "best.safetensors", loop.weights())
    middle = time.perf_counter()
    write_tensors(place / "step.safetensors", {**loop.weights(), **optimiser_tensors(loop.optimiser)})
    ended = time.perf_counter()
    best, step = ((place / f"{name}.safetensors").stat().st_size for name in ("best", "step"))
    return middle - began, ended - middle, 2.0 * (best + step)
