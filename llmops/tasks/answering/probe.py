"""Foresees a training's time, memory and disk from a few real steps on real rows."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from llmops.core.artifact import tree_size
from llmops.core.protocols import Room
from llmops.engine.batching import plan_epoch, scoring_batches, steps_per_epoch
from llmops.engine.checkpoint import write_tensors
from llmops.engine.device import seed_everything
from llmops.engine.fit import CHECKPOINT_SHARE, Loop
from llmops.engine.memory import PeakMemory
from llmops.engine.optim import optimiser_tensors
from llmops.engine.ragged import Ragged, first_rows
from llmops.tasks.answering.config import AnsweringTrainSection
from llmops.tasks.answering.problem import PairProblem, Pairs

if TYPE_CHECKING:
    from llmops.tasks.answering.learner import Answerer

SLACK = 1.7
"""Upper bound over estimate: other processes on the machine, slow batches."""
MIN_STEPS = 3
SAMPLE = 96
"""Texts whose vectors are computed to see what one costs."""


def probe(learner: Answerer, dataset: Path, seconds: float, room: Room) -> dict[str, float]:
    """Run real steps for about `seconds`, the largest batch first, and reckon up the planned training.

    Returns epoch_s, train_s (with set-up, evaluation, checkpoints), train_s_upper, peak_memory_mb, parameters, disk_mb,
    rows_per_s. The learner is left as if it had been trained for these few steps.
    """
    with tempfile.TemporaryDirectory(prefix="llmops-probe-") as scratch, PeakMemory() as memory:
        place = Path(scratch)
        began = time.perf_counter()
        seed_everything(learner.seed)
        pairs = learner.pairs(dataset)
        few = sampled(pairs) if learner.settings.method == "frozen" else pairs
        problem = learner.pose(few)
        setup_s = time.perf_counter() - began
        each_s = time_vectors(problem, pairs.entries)
        whole = sum(int(data.lengths.sum()) for data in (pairs.valid, pairs.entries))
        evaluation_s = each_s * whole
        if few is not pairs:  # a frozen encoder computes every text's vector once, and never again
            setup_s += each_s * (whole + int(pairs.train.lengths.sum()))
            evaluation_s = 0.0
        loop = Loop(problem, learner.settings, learner.seed, place / "work", room)
        epoch_s = time_epoch(loop, problem, len(pairs.train), seconds, room) + evaluation_s
        best_s, checkpoint_s, disk = time_writing(loop, place)
        learner.keep(problem)
        learner.save(place / "model")
        disk += tree_size(place / "model")
    epoch_s += best_s
    train_s = setup_s + passes(learner.settings, len(pairs.train)) * epoch_s
    pause = max(learner.settings.checkpoint_every_s, CHECKPOINT_SHARE * checkpoint_s, 1e-3)
    train_s += checkpoint_s * (1 + train_s / pause)
    return {
        "epoch_s": epoch_s,
        "train_s": train_s,
        "train_s_upper": train_s * SLACK,
        "peak_memory_mb": memory.peak_mb,
        "parameters": learner.parameters(),
        "disk_mb": disk / 1e6,
        "rows_per_s": len(pairs.train) / epoch_s,
    }


def passes(settings: AnsweringTrainSection, rows: int) -> float:
    """How often the training will go over its rows."""
    return settings.steps / steps_per_epoch(rows, settings.batch_size) if settings.steps else settings.epochs


def sampled(pairs: Pairs) -> Pairs:
    """A few rows, whose entries are counted anew."""
    train = first_rows(pairs.train, SAMPLE)
    entries, labels = np.unique(train.labels, return_inverse=True)
    kept = [pairs.entries.tokens[pairs.entries.offsets[n] : pairs.entries.offsets[n + 1]] for n in entries]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in kept])]).astype(np.int64)
    return replace(
        pairs,
        train=Ragged(train.tokens, train.offsets, labels.astype(np.int64)),
        valid=first_rows(pairs.valid, 1),
        entries=Ragged(np.concatenate(kept), offsets, np.arange(len(entries))),
        right=[frozenset([int(label)]) for label in labels],
        negatives=np.zeros((len(train), 0), np.int64),
    )


def time_vectors(problem: PairProblem, data: Ragged) -> float:
    """Seconds that one token of a text costs, from a batch of the longest and one of the shortest texts."""
    problem.network.eval()
    batches = list(scoring_batches(data.lengths))
    took, tokens = 0.0, 0
    with torch.inference_mode():
        for rows in (batches[0], batches[-1]):
            began = time.perf_counter()
            problem.network(*problem.tensors(data, rows[:SAMPLE]))
            took += time.perf_counter() - began
            tokens += int(data.lengths[rows[:SAMPLE]].sum())
    return took / tokens


def time_epoch(loop: Loop, problem: PairProblem, rows: int, seconds: float, room: Room) -> float:
    """Seconds of the steps of an epoch over so many rows."""
    batches = plan_epoch(problem.lengths, loop.settings.batch_size, loop.seed, 1)
    largest = max(range(len(batches)), key=lambda number: int(problem.lengths[batches[number]].sum()))
    loop.network.train()
    loop.step(batches[largest])
    took, done, steps = 0.0, 0, 0
    with room.progress("probing", total=seconds) as bar:
        for batch in batches * MIN_STEPS:
            began = time.perf_counter()
            loop.step(batch)
            took += time.perf_counter() - began
            done, steps = done + int(problem.lengths[batch].sum()), steps + 1
            bar.update(min(seconds, took))
            if took >= seconds and steps >= MIN_STEPS:
                break
    return took / done * float(problem.lengths.mean()) * rows


def time_writing(loop: Loop, place: Path) -> tuple[float, float, float]:
    """Seconds to write the best weights, seconds to write a checkpoint, bytes that a training keeps on disk."""
    began = time.perf_counter()
    write_tensors(place / "best.safetensors", loop.weights())
    middle = time.perf_counter()
    write_tensors(place / "step.safetensors", {**loop.weights(), **optimiser_tensors(loop.optimiser)})
    ended = time.perf_counter()
    best, step = ((place / f"{name}.safetensors").stat().st_size for name in ("best", "step"))
    return middle - began, ended - middle, 2.0 * (best + step)
