"""Foresees a table's training: each kind is fitted on a sample for a moment, and reckoned up to all rows and folds."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.protocols import Room
from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import TabularTrainSection
from llmops.tasks.tabular.fitted import Fitted
from llmops.tasks.tabular.folds import Part, PartMaker, folds_of
from llmops.tasks.tabular.linear import MOST_ROWS
from llmops.tasks.tabular.trees import fit_trees

if TYPE_CHECKING:
    from llmops.tasks.tabular.learner import TabularLearner

SLACK = 1.5
"""Upper bound over estimate: other processes on the machine, and what a sample does not show."""
FEW_ROWS = 4_000
"""Every kind is fitted on so many rows first; on more when the time allows."""
ANSWERED = 5_000
"""Rows that a fitted part answers, for its rate."""
WARM_ROWS = 500
"""Rows of a first fit that nobody times: libraries are loaded then."""
QUICK_TREES, QUICK_EPOCHS = 60, 2
WORKING = {"linear": 48.0, "trees": 6.0, "forest": 6.0, "network": 12.0}
"""Bytes that a kind's fit holds at most for each number of the rows it learns from: copies, bins, standardised
values."""


@dataclass(frozen=True)
class Scale:
    """How large the training will be: rows that a part learns from, rows that all parts answer together, and folds."""

    learnt: int
    answered: int
    folds: int


@dataclass(frozen=True)
class Tried:
    """One part, fitted on `rows` rows for `seconds`, which was `share` of its work. `most`: how many times longer the
    work may be, where early stopping ended it."""

    kind: str
    made: Fitted
    rows: int
    seconds: float
    share: float
    most: float = 1.0


def probe(learner: TabularLearner, dataset: Path, seconds: float, room: Room) -> dict[str, float]:
    """Fit each kind on samples for about `seconds` in all. Returns epoch_s (one fold), train_s, train_s_upper,
    rows_per_s, peak_memory_mb, memory_limit_mb, disk_mb and parameters.

    dataset.json may count more training rows than there are at hand. The learner is left untrained.
    """
    from llmops.engine.device import choose_device
    from llmops.engine.memory import PeakMemory, limit_mb

    directions = learner.adopt(dataset).directions
    with tempfile.TemporaryDirectory(prefix="llmops-probe-") as scratch, PeakMemory() as memory:
        train, valid = Arrays.read(dataset, "train"), Arrays.read(dataset, "valid")
        rows = max(len(train), counted(dataset))
        folds, kinds = folds_of(learner.settings, rows), learner.kinds(rows)
        valid_rows = round(len(valid) * rows / len(train))
        learnt = round(rows * (folds - 1) / folds) if folds > 1 else rows
        scale = Scale(learnt, valid_rows * folds + (rows if folds > 1 else 0), folds)
        maker = PartMaker(learner.settings, len(learner.labels), directions, learner.seed, Path(scratch), room)
        tried = []
        with room.progress("probing", len(kinds)) as bar:
            for kind in kinds:
                tried.append(attempt(kind, maker, train, valid, scale, seconds / len(kinds)))
                bar.update(len(tried), kind)
        times = [reckoned(one, scale, valid) for one in tried]
    train_s = sum(expected for expected, _ in times)
    parameters = sum(numbers(one.made) / one.share for one in tried) * folds
    there = max(held_mb(one.kind, one.rows, len(train) + len(valid), train, folds=1) for one in tried)
    then = max(held_mb(one.kind, learnt, rows + valid_rows, train, folds) for one in tried)
    return {
        "epoch_s": train_s / folds,
        "train_s": train_s,
        "train_s_upper": SLACK * sum(upper for _, upper in times),
        "rows_per_s": rows * len(tried) * folds / train_s,
        "peak_memory_mb": memory.peak_mb + then - there,
        "memory_limit_mb": limit_mb(choose_device("cpu")),
        "disk_mb": 2 * parameters * 8 / 1e6,
        "parameters": parameters,
    }


def counted(dataset: Path) -> int:
    """Training rows that dataset.json speaks of; 0 without it."""
    path = dataset / "dataset.json"
    return int(json.loads(path.read_bytes())["counts"]["train"]) if path.exists() else 0


def attempt(kind: str, maker: PartMaker, train: Arrays, valid: Arrays, scale: Scale, seconds: float) -> Tried:
    """Fit a part on a few rows, and, where that leaves time, on as many more as it allows."""
    known = valid.take(np.flatnonzero(valid.y >= 0)) if maker.classes else valid
    most = min(len(train), scale.learnt)
    rows = min(FEW_ROWS, most)
    tried(kind, maker, _evenly(train, WARM_ROWS), _evenly(known, WARM_ROWS), seconds / 10)
    found = tried(kind, maker, _evenly(train, rows), _evenly(known, rows), seconds)
    left = seconds - found.seconds
    more = min(most, int(rows * left / max(found.seconds, 1e-3)))
    if more > rows:
        found = tried(kind, maker, _evenly(train, more), _evenly(known, more), left)
    return found


def tried(kind: str, maker: PartMaker, rows: Arrays, held_out: Arrays, seconds: float) -> Tried:
    """Fit one part, or the beginning of it that `seconds` allow."""
    began = time.perf_counter()
    if kind != "trees":
        quick, share = quickened(kind, maker.settings)
        made = replace(maker, settings=quick).fit(Part(kind, 0), rows, held_out, lambda note: None)
        return Tried(kind, made, len(rows), time.perf_counter() - began, share)
    settings, reached, late = maker.settings.trees, 0, False

    def heard(rounds: int, loss: float) -> bool:
        nonlocal reached, late
        reached, late = rounds, time.perf_counter() - began > seconds
        return late

    made = fit_trees(rows, held_out, maker.classes, settings, maker.directions, maker.seed, heard)
    reached = max(reached, len(made.root) // len(made.base))
    share = reached / settings.rounds
    took = time.perf_counter() - began
    return Tried(kind, made, len(rows), took, share if late else 1.0, 1.0 if late else 1.0 / share)


def quickened(kind: str, settings: TabularTrainSection) -> tuple[TabularTrainSection, float]:
    """Settings that do a share of the work, and the share."""
    if kind == "forest":
        trees = min(settings.forest.trees, QUICK_TREES)
        quick = settings.forest.model_copy(update={"trees": trees})
        return settings.model_copy(update={"forest": quick}), trees / settings.forest.trees
    if kind == "network":
        epochs = min(settings.network.epochs, QUICK_EPOCHS)
        quick_network = settings.network.model_copy(update={"epochs": epochs})
        return settings.model_copy(update={"network": quick_network}), epochs / settings.network.epochs
    return settings, 1.0


def reckoned(one: Tried, scale: Scale, valid: Arrays) -> tuple[float, float]:
    """Seconds of all parts of a kind, as expected and at most: fitting, and answering.

    Fitting goes with the rows; trees that stopped early on a sample are more on more rows, by the root of how many.
    """
    most = MOST_ROWS if one.kind == "linear" else scale.learnt
    growth = min(scale.learnt, most) / min(one.rows, most)
    longer = min(one.most, float(np.sqrt(max(1.0, growth))))
    few = _evenly(valid, ANSWERED)
    began = time.perf_counter()
    one.made.raw(few.x)
    answers: float = (time.perf_counter() - began) / len(few) * scale.answered
    if one.kind in ("trees", "forest"):
        answers /= one.share
    fits = one.seconds / one.share * growth * scale.folds
    return (fits + answers) * longer, (fits + answers) * one.most


def held_mb(kind: str, learnt: int, rows: int, like: Arrays, folds: int = 1) -> float:
    """Memory of the rows, and of a kind's fit on `learnt` of them; with folds the rows of one stand beside all."""
    features = like.x.shape[1]
    copies = 4.0 * features * (rows + (learnt if folds > 1 else 0))
    held = WORKING[kind] * features * (min(learnt, MOST_ROWS) if kind == "linear" else learnt)
    return float(copies + held) / 1e6


def numbers(made: Fitted) -> float:
    """Numbers in a fitted part."""
    return float(sum(values.size for values in made.tensors().values()))


def _evenly(rows: Arrays, most: int) -> Arrays:
    """At most so many rows, evenly spread."""
    if len(rows) <= most:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, most).astype(np.int64))
