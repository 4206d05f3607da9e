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
from llmops.engine.device import seed_everything
from llmops.engine.fit import Loop
from llmops.engine.memory import PeakMemory, limit_mb
from llmops.engine.probe import Planned, foresee, planned
from llmops.tasks.text_generation.encoder import GenerationEncoder
from llmops.tasks.text_generation.model import GenerationModel, Problem
from llmops.tasks.text_generation.packing import Encoded, lay, scoring_plan, windows
from llmops.tasks.text_generation.problem import scoring_tokens

Array = np.ndarray[Any, Any]

VALID_SHARE = 0.1
"""Of a list of rows, which are all to be trained on, this share is also taken for validation."""


def probe(learner: GenerationModel, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
    """Run real steps for about `seconds`, the largest batch first, and reckon up the planned training with its
    `pretrain_epochs`.

    `source` is a data set folder, or a list of rows that will be trained on. Returns what engine.probe.foresee does,
    peak_memory_mb, memory_limit_mb and parameters. The learner is left as if it had been trained for these few steps.
    """
    began, device, before = time.perf_counter(), learner.device(), learner.settings.pretrain_epochs
    with tempfile.TemporaryDirectory(prefix="llmops-probe-") as scratch, PeakMemory(device) as memory:
        place = Path(scratch)
        dataset = source if isinstance(source, Path) else encode(learner, source, place / "dataset")
        seed_everything(learner.seed)
        learner.adopt(dataset)
        problem = learner.pose(learner.fresh(), dataset)
        setup_s = time.perf_counter() - began
        loop = Loop(problem, learner.settings, learner.seed, place / "work", room)

        def plan() -> Planned:
            return planned(problem, loop.settings, setup_s, time_scoring(problem, seconds / 4), before)

        found = foresee(loop, plan, place, seconds, room)
        learner.keep(problem)
        learner.save(place / "model")
        found["disk_mb"] += tree_size(place / "model") / 1e6
    return {
        **found,
        "peak_memory_mb": memory.peak_mb,
        "memory_limit_mb": limit_mb(device),
        "parameters": learner.parameters(),
    }


def encode(learner: GenerationModel, rows: list[Row], out: Path) -> Path:
    """A throwaway data set from rows, encoded as prepare would."""
    splits = {"train": rows, "valid": rows[:: round(1 / VALID_SHARE)]}
    GenerationEncoder(learner.section, learner.settings).prepare(splits, out)
    return out


def time_scoring(problem: Problem, seconds: float) -> float:
    """Seconds of one evaluation on all validation rows."""
    data, reading = problem.valid, problem.reading
    cut = windows(reading.spans(data), reading.context)
    problem.network.eval()
    took, done = 0.0, 0
    with torch.no_grad():
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
