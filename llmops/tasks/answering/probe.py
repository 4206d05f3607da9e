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
from llmops.engine.batching import plan_epoch, scoring_batches
from llmops.engine.device import seed_everything
from llmops.engine.fit import Loop, batch_size
from llmops.engine.memory import PeakMemory, limit_mb
from llmops.engine.probe import Planned, foresee, planned
from llmops.engine.ragged import Ragged, first_rows
from llmops.tasks.answering.problem import PairProblem, Pairs

if TYPE_CHECKING:
    from llmops.tasks.answering.learner import Answerer

SAMPLE = 96
"""Texts whose vectors are computed to see what one costs."""


def probe(learner: Answerer, dataset: Path, seconds: float, room: Room) -> dict[str, float]:
    """Run real steps for about `seconds`, the largest batch first, and reckon up the planned training.

    Returns what engine.probe.foresee does, peak_memory_mb, memory_limit_mb and parameters. The learner is left as if it
    had been trained for these few steps.
    """
    device = learner.device()
    with tempfile.TemporaryDirectory(prefix="llmops-probe-") as scratch, PeakMemory(device) as memory:
        place = Path(scratch)
        began = time.perf_counter()
        seed_everything(learner.seed)
        pairs = learner.pairs(dataset)
        few = sampled(pairs) if learner.settings.method == "frozen" else pairs
        problem = learner.pose(few)
        setup_s = time.perf_counter() - began
        each_s = time_vectors(problem, pairs.entries)
        loop = Loop(problem, learner.settings, learner.seed, place / "work", room)
        found = foresee(loop, lambda: plan_of(loop, pairs, few, setup_s, each_s), place, seconds, room)
        learner.keep(problem)
        learner.save(place / "model")
        found["disk_mb"] += tree_size(place / "model") / 1e6
    return {
        **found,
        "peak_memory_mb": memory.peak_mb,
        "memory_limit_mb": limit_mb(device),
        "parameters": learner.parameters(),
    }


def plan_of(loop: Loop, pairs: Pairs, few: Pairs, setup_s: float, each_s: float) -> Planned:
    """The whole training, when a token's vector costs `each_s`."""
    whole = sum(int(data.lengths.sum()) for data in (pairs.valid, pairs.entries))
    if few is pairs:
        return planned(loop.problem, loop.settings, setup_s, each_s * whole)
    # a frozen encoder computes every text's vector once, and never again
    rows = len(pairs.train)
    setup_s += each_s * (whole + int(pairs.train.lengths.sum()))
    batches = plan_epoch(np.ones(rows, np.int64), batch_size(loop.settings), loop.seed, 1)
    found = planned(loop.problem, loop.settings, setup_s, 0.0)
    passes = loop.settings.steps / len(batches) if loop.settings.steps else loop.settings.epochs
    return replace(found, cells=[len(batch) for batch in batches], rows=rows, tokens=rows, passes=passes)


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
    with torch.no_grad():
        for rows in (batches[0], batches[-1]):
            began = time.perf_counter()
            problem.network(*problem.tensors(data, rows[:SAMPLE]))
            took += time.perf_counter() - began
            tokens += int(data.lengths[rows[:SAMPLE]].sum())
    return took / tokens
