"""Foresees a training's time, memory and disk from a few real steps on real rows."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmops.core.artifact import tree_size
from llmops.core.protocols import Room, Row
from llmops.engine.checkpoint import write_tensors
from llmops.engine.device import seed_everything
from llmops.engine.fit import CHECKPOINT_SHARE, Loop
from llmops.engine.memory import PeakMemory
from llmops.engine.optim import optimiser_tensors
from llmops.tasks.text_generation.encoder import GenerationEncoder
from llmops.tasks.text_generation.model import GenerationModel, Problem
from llmops.tasks.text_generation.packing import Encoded, lay, scoring_plan, windows
from llmops.tasks.text_generation.problem import scoring_tokens

Array = np.ndarray[Any, Any]

VALID_SHARE = 0.1
"""Of a list of rows, which are all to be trained on, this share is also taken for validation."""
SLACK = 1.5
"""Upper bound over estimate: other processes on the machine, slow batches."""
MIN_STEPS = 3


def probe(learner: GenerationModel, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
    """Run real steps for about `seconds`, the largest batch first, and reckon up the planned training with its
    `pretrain_epochs`.

    `source` is a data set folder, or a list of rows that will be trained on. Returns epoch_s, train_s (with set-up,
    encoding a list, evaluation, checkpoints), train_s_upper, peak_memory_mb, parameters, disk_mb, rows_per_s,
    tokens_per_s. The learner is left as if it had been trained for these few steps.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="llmops-probe-") as scratch, PeakMemory() as memory:
        place = Path(scratch)
        dataset = source if isinstance(source, Path) else encode(learner, source, place / "dataset")
        seed_everything(learner.seed)
        learner.adopt(dataset)
        problem = learner.pose(learner.fresh(), dataset)
        setup_s = time.perf_counter() - began
        loop = Loop(problem, learner.settings, learner.seed, place / "work", room)
        tokens_per_s, spread = time_steps(loop, seconds, room)
        batches = problem.plan(learner.settings.batch_size, learner.seed, 1)
        tokens = sum(problem.tokens(rows) for rows in batches)
        steps_s, scoring_s = tokens / tokens_per_s, time_scoring(problem, seconds / 4)
        best_s, checkpoint_s, disk = time_writing(loop, place)
        learner.keep(problem)
        learner.save(place / "model")
        disk += tree_size(place / "model")
    passes = loop.total / len(batches)
    evaluations = int(np.ceil(passes)) + learner.settings.pretrain_epochs
    train_s = setup_s + (passes + learner.settings.pretrain_epochs) * steps_s + evaluations * (scoring_s + best_s)
    pause = max(learner.settings.checkpoint_every_s, CHECKPOINT_SHARE * checkpoint_s, steps_s / len(batches))
    train_s += checkpoint_s * (1 + train_s / pause)
    epoch_s = steps_s + scoring_s + best_s
    return {
        "epoch_s": epoch_s,
        "train_s": train_s,
        "train_s_upper": train_s * (SLACK + spread),
        "peak_memory_mb": memory.peak_mb,
        "parameters": learner.parameters(),
        "disk_mb": disk / 1e6,
        "rows_per_s": sum(len(rows) for rows in batches) / epoch_s,
        "tokens_per_s": tokens / epoch_s,
    }


def encode(learner: GenerationModel, rows: list[Row], out: Path) -> Path:
    """A throwaway data set from rows, encoded as prepare would."""
    splits = {"train": rows, "valid": rows[:: round(1 / VALID_SHARE)]}
    GenerationEncoder(learner.section, learner.settings).prepare(splits, out)
    return out


def time_steps(loop: Loop, seconds: float, room: Room) -> tuple[float, float]:
    """Training tokens a second, and how much the steps deviate from that (share of it)."""
    problem = loop.problem
    batches = problem.plan(loop.settings.batch_size, loop.seed, 1)
    loop.network.train()
    loop.step(max(batches, key=problem.tokens))
    times: list[float] = []
    sizes: list[int] = []
    with room.progress("probing", total=seconds) as bar:
        for rows in batches * MIN_STEPS:
            began = time.perf_counter()
            loop.step(rows)
            times.append(time.perf_counter() - began)
            sizes.append(problem.tokens(rows))
            bar.update(min(seconds, sum(times)))
            if sum(times) >= seconds and len(times) >= MIN_STEPS:
                break
    rate = sum(sizes) / sum(times)
    spread = np.abs(np.array(sizes) / rate - times).mean() / np.mean(times) / np.sqrt(len(times))
    return rate, float(spread)


def time_scoring(problem: Problem, seconds: float) -> float:
    """Seconds of one evaluation on all validation rows."""
    data, reading = problem.valid, problem.reading
    cut = windows(reading.spans(data), reading.context)
    problem.network.eval()
    took, done = 0.0, 0
    with torch.inference_mode():
        for rows in scoring_plan(cut, scoring_tokens(reading.vocabulary)):
            began = time.perf_counter()
            score(problem, data, cut[rows])
            took += time.perf_counter() - began
            done += int(cut[rows, 1].sum())
            if took >= seconds:
                break
    return took * int(cut[:, 1].sum()) / max(1, done)


def score(problem: Problem, data: Encoded, cut: Array) -> None:
    laid = lay(data, cut)
    arrays = (torch.from_numpy(one).to(problem.device) for one in (laid.tokens, laid.places, laid.targets))
    problem.reader.log_probabilities(laid.shapes, *arrays)


def time_writing(loop: Loop, place: Path) -> tuple[float, float, float]:
    """Seconds to write the best weights, seconds to write a checkpoint, bytes that a training keeps on disk."""
    began = time.perf_counter()
    write_tensors(place / "best.safetensors", loop.weights())
    middle = time.perf_counter()
    write_tensors(place / "step.safetensors", {**loop.weights(), **optimiser_tensors(loop.optimiser)})
    ended = time.perf_counter()
    best, step = ((place / f"{name}.safetensors").stat().st_size for name in ("best", "step"))
    return middle - began, ended - middle, 2.0 * (best + step)
