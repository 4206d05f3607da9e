"""Foresees a training's time, memory and disk from a few real steps on real rows: the part that all tasks share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmops.core.protocols import Room
from llmops.engine.checkpoint import snapshot, write_tensors
from llmops.engine.config import FitSection
from llmops.engine.fit import CHECKPOINT_SHARE, Loop, batch_size
from llmops.engine.optim import optimiser_tensors
from llmops.engine.state import Trainable

SLACK = 1.5
"""Upper bound over estimate: other processes on the machine, slow batches."""
MIN_STEPS = 4


@dataclass
class Planned:
    """The training to foresee. `cells` are those of each batch of an epoch, `rows` and `tokens` an epoch's; `passes`
    over the rows, and `evaluations` of `evaluation_s` each; `setup_s` comes before."""

    cells: Sequence[int]
    rows: int
    tokens: int
    passes: float
    evaluations: float
    evaluation_s: float
    setup_s: float


def planned(
    problem: Trainable, settings: FitSection, setup_s: float, evaluation_s: float, passes_before: int = 0
) -> Planned:
    """What `settings` ask for on all of the problem's rows; `passes_before` are those of an earlier phase."""
    batches = problem.plan(batch_size(settings), 0, 1)
    passes = passes_before + (settings.steps / len(batches) if settings.steps else settings.epochs)
    cells = [problem.cells(rows) for rows in batches]
    tokens = sum(problem.tokens(rows) for rows in batches)
    rows = sum(len(batch) for batch in batches)
    return Planned(cells, rows, tokens, passes, float(np.ceil(passes)), evaluation_s, setup_s)


def foresee(loop: Loop, plan: Callable[[], Planned], place: Path, seconds: float, room: Room) -> dict[str, float]:
    """Steps for about `seconds`, the largest batch first, then what `plan` measures. Returns epoch_s (an evaluation and
    the best weights' file with it), train_s, train_s_upper, rows_per_s, tokens_per_s, disk_mb (of checkpoints)."""
    fixed, each, spread = time_steps(loop, seconds, room)
    wanted = plan()
    steps_s = fixed * len(wanted.cells) + each * sum(wanted.cells)
    best_s, checkpoint_s, disk = time_writing(loop, place)
    train_s = wanted.setup_s + wanted.passes * steps_s + wanted.evaluations * (wanted.evaluation_s + best_s)
    pause = max(loop.settings.checkpoint_every_s, CHECKPOINT_SHARE * checkpoint_s, steps_s / len(wanted.cells))
    train_s += checkpoint_s * (1 + train_s / pause)
    epoch_s = steps_s + wanted.evaluation_s + best_s
    return {
        "epoch_s": epoch_s,
        "train_s": train_s,
        "train_s_upper": train_s * (SLACK + spread),
        "rows_per_s": wanted.rows / epoch_s,
        "tokens_per_s": wanted.tokens / epoch_s,
        "disk_mb": disk / 1e6,
    }


def time_steps(loop: Loop, seconds: float, room: Room) -> tuple[float, float, float]:
    """Seconds that a step costs, those that a cell costs, and how much steps deviate from that (share of it)."""
    problem = loop.problem
    batches = problem.plan(batch_size(loop.settings), loop.seed, 1)
    problem.network.train()
    loop.step(max(batches, key=problem.cells))
    times: list[float] = []
    cells: list[int] = []
    with room.progress("probing", total=seconds) as bar:
        for rows in batches * MIN_STEPS:
            began = time.perf_counter()
            loop.note_point(rows, loop.step(rows))
            times.append(time.perf_counter() - began)
            cells.append(problem.cells(rows))
            bar.update(min(seconds, sum(times)))
            if sum(times) >= seconds and len(times) >= MIN_STEPS:
                break
    fixed, each = line(np.array(cells), np.array(times))
    reckoned = fixed + each * np.array(cells)
    return fixed, each, float(np.abs(reckoned - times).mean() / np.mean(times) / np.sqrt(len(times)))


def line(sizes: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Least squares of times = fixed + each * sizes, both at least 0; the mean where no line fits."""
    if len(np.unique(sizes)) > 1:
        each, fixed = np.polyfit(sizes, times, 1)
        if each >= 0 and fixed >= 0:
            return float(fixed), float(each)
    return 0.0, float(times.sum() / sizes.sum())


def time_writing(loop: Loop, place: Path) -> tuple[float, float, float]:
    """Seconds to write the best weights, seconds to write a checkpoint, bytes that a training keeps on disk."""
    weights = loop.keeper.weights()
    began = time.perf_counter()
    write_tensors(place / "best.safetensors", snapshot(weights))
    middle = time.perf_counter()
    write_tensors(place / "step.safetensors", snapshot({**weights, **optimiser_tensors(loop.stepper.optimiser)}))
    ended = time.perf_counter()
    best, step = ((place / f"{name}.safetensors").stat().st_size for name in ("best", "step"))
    return middle - began, ended - middle, 2.0 * (best + step)
