"""Foresees a training's time, memory and disk from a few real steps on real rows."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from llmops.core.artifact import tree_size
from llmops.core.protocols import Room, Row
from llmops.engine.batching import padded_cells, plan_epoch, scoring_batches
from llmops.engine.device import seed_everything
from llmops.engine.fit import Loop, batch_size
from llmops.engine.memory import PeakMemory, limit_mb
from llmops.engine.probe import Planned, foresee, planned
from llmops.engine.ragged import Ragged, first_rows
from llmops.tasks.text_classification.classifier import Classifier
from llmops.tasks.text_classification.few.unlabelled import foreseen_s
from llmops.tasks.text_classification.problem import TextProblem

VALID_SHARE = 0.1
"""Of a list of rows, which are all to be trained on, this share is also taken for validation."""
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

    `source` is a data set folder, or a list of {"text", "label"} rows that will be trained on. Returns what
    engine.probe.foresee does, peak_memory_mb, memory_limit_mb and parameters. The learner is left as if it had been
    trained for these few steps.
    """
    device = learner.device()
    with tempfile.TemporaryDirectory(prefix="llmops-probe-") as scratch, PeakMemory(device) as memory:
        place = Path(scratch)
        dataset = source if isinstance(source, Path) else encode(learner, source, place / "dataset")
        unlabelled_s = foreseen_s(learner, dataset, place / "unlabelled", seconds / 4, room)
        bench = set_up(learner, dataset)
        bench.setup_s += unlabelled_s
        loop = Loop(bench.problem, learner.settings, learner.seed, place / "work", room)
        found = foresee(loop, lambda: plan_of(bench, loop, seconds / 4), place, seconds, room)
        learner.keep(bench.problem)
        learner.save(place / "model")
        found["disk_mb"] += tree_size(place / "model") / 1e6
    return {
        **found,
        "peak_memory_mb": memory.peak_mb,
        "memory_limit_mb": limit_mb(device),
        "parameters": learner.parameters(),
    }


def plan_of(bench: Bench, loop: Loop, seconds: float) -> Planned:
    """The whole training; of a frozen encoder only some rows' vectors are at hand."""
    found = planned(bench.problem, loop.settings, bench.setup_s, time_scoring(bench, seconds))
    few = bench.problem.settings.few
    if few is not None and few.refit:
        both = len(bench.lengths) + len(bench.valid_lengths)
        found = replace(found, passes=found.passes * (1 + both / len(bench.lengths)))
    if len(bench.lengths) == len(bench.problem.lengths):
        return found
    batches = plan_epoch(bench.lengths, batch_size(loop.settings), loop.seed, 1)
    rows = len(bench.lengths)
    return replace(found, cells=[padded_cells(bench.lengths, batch) for batch in batches], rows=rows, tokens=rows)


def set_up(learner: Classifier, dataset: Path) -> Bench:
    """Build the network. A frozen encoder's vectors are computed for a sample, and reckoned up."""
    began = time.perf_counter()
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
    learner.encoder(learner.section, learner.settings).prepare(splits, out)
    return out


def time_scoring(bench: Bench, seconds: float) -> float:
    """Seconds of one evaluation on all validation rows."""
    data = bench.problem.valid
    bench.problem.network.eval()
    took, done = 0.0, 0
    with torch.no_grad():
        for rows in scoring_batches(data.lengths):
            began = time.perf_counter()
            bench.problem.network(*bench.problem.batch(data, rows))
            took += time.perf_counter() - began
            done += padded_cells(data.lengths, rows)
            if took >= seconds:
                break
    return took * int(bench.valid_lengths.sum()) / max(1, done)
