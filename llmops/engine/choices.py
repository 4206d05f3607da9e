"""What `auto` in `train:` means on this machine: batch size and precision, chosen once and kept for a resume."""

from __future__ import annotations

import json
import math
import time
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from llmops.core.artifact import write_json
from llmops.core.errors import MachineError
from llmops.core.protocols import Room
from llmops.engine.batching import usual
from llmops.engine.config import FitSection
from llmops.engine.device import device_of
from llmops.engine.memory import PeakMemory, limit_mb
from llmops.engine.parallel import World
from llmops.engine.precision import LIMIT_SIZES, bfloat16_gain, computing, prepare_device, synchronise
from llmops.engine.state import Trainable
from llmops.engine.step import ran_out
from llmops.engine.verdict import gain_of, verdict

SIZES = (8, 16, 32, 64, 128, 256, 512)
USUAL = 32
"""The batch size that a config's learning rate is meant for."""
NEARLY = 0.95
"""A smaller batch is taken when it does at least this share of the largest rate."""
STEPS_PER_EPOCH = 16
"""A batch so large that an epoch has fewer steps is not tried."""
MEMORY_SHARE = 0.8
"""Of the device's memory, what a step may take."""
GAIN = 1.05
"""bfloat16 is taken when whole steps are at least this many times as fast as in float32, which is exact."""
TIMED_S = 0.3
"""Seconds for which each size is timed."""

S = TypeVar("S", bound=FitSection)


def resolved(problem: Trainable, settings: S, work: Path, room: Room, world: World) -> S:
    """The settings with a precision, a batch size, and the learning rate that goes with it."""
    device = device_of(problem.network)
    prepare_device(settings.precision, device)
    wanted = [name for name in ("precision", "batch_size") if getattr(settings, name) == "auto"]
    kept = work / "choices.json"
    if world.first and wanted and not kept.exists():
        write_json(kept, chosen(problem, settings, room))
    world.wait()
    found = json.loads(kept.read_bytes()) if wanted else {}
    settings = settings.model_copy(update={name: found[name] for name in wanted})
    if "batch_size" in wanted:
        rate = scaled(settings.learning_rate, found["batch_size"])
        settings = settings.model_copy(update={"learning_rate": rate})
    return settings


def chosen(problem: Trainable, settings: FitSection, room: Room) -> dict[str, Any]:
    """{"precision", "batch_size"} as they shall be."""
    if settings.precision == "auto":
        settings = settings.model_copy(update={"precision": choose_precision(problem, settings, room)})
    size = choose_batch_size(problem, settings, room) if settings.batch_size == "auto" else settings.batch_size
    return {"precision": settings.precision, "batch_size": size}


def choose_precision(problem: Trainable, settings: FitSection, room: Room) -> str:
    """bfloat16 where matrix products are faster in it here and real steps too, else float32. It is found out once for a
    machine and a network."""
    device = device_of(problem.network)
    if device.type not in LIMIT_SIZES:
        return "float32"
    size = USUAL if settings.batch_size == "auto" else settings.batch_size
    found = verdict(problem.network, size, lambda: measured_gain(problem, settings, size))
    name = "bfloat16" if found.gain >= GAIN else "float32"
    when = "was, when it was measured here," if found.kept else "is"
    room.say(f"computing in {name}: a step in bfloat16 {when} {found.gain:.2f} times as fast")
    return name


def measured_gain(problem: Trainable, settings: FitSection, size: int) -> float:
    """How many times as fast the gradients of real batches are in bfloat16; of matrix products, where these are slower
    already. No weight is changed."""
    products = bfloat16_gain(device_of(problem.network).type)
    if products < 1:
        return products
    batches = problem.plan(size, 0, 1)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(batches))
    problem.network.train()

    def step(precision: str, rows: np.ndarray) -> None:
        """A batch that does not fit into memory is tried by ever smaller parts, as a training would compute it."""
        try:
            gradient(problem, settings.model_copy(update={"precision": precision}), rows)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error) or len(rows) < 2:
                raise
            for part in np.array_split(rows, 2):
                step(precision, part)

    gain = gain_of((batches[place] for place in cycle(order.tolist())), step, GAIN)
    problem.network.zero_grad(set_to_none=True)
    return gain


def scaled(rate: float, size: int) -> float:
    """The learning rate for another batch size (Malladi et al. 2022: Adam's grows with the square root)."""
    return rate * math.sqrt(size / USUAL)


def choose_batch_size(problem: Trainable, settings: FitSection, room: Room) -> int:
    """The smallest of `SIZES` that is nearly as fast as the fastest, among those that fit into memory. Raises
    MachineError when none does."""
    device = device_of(problem.network)
    limit = MEMORY_SHARE * limit_mb(device)
    rates: dict[int, float] = {}
    peak = 0.0
    for size in SIZES:
        if rates and problem.steps(size) < STEPS_PER_EPOCH:
            break
        found = tried(problem, settings, size)
        if found is None or found[1] > limit:
            peak = limit if found is None else found[1]
            break
        rates[size] = found[0]
    if not rates:
        raise MachineError(
            f"A batch of {SIZES[0]} rows takes about {peak:,.0f} MB; {limit:,.0f} MB may be used.",
            "train.batch_size",
            "shorten the texts, or take a smaller model",
        )
    chosen = min(size for size, rate in rates.items() if rate >= NEARLY * max(rates.values()))
    told = ", ".join(f"{size}: {rate:,.0f}" for size, rate in rates.items())
    room.say(f"batch size {chosen} (tokens/s by size: {told})")
    return chosen


def tried(problem: Trainable, settings: FitSection, size: int) -> tuple[float, float] | None:
    """(tokens a second, peak MB) of gradients of batches of this size, the largest first; None when memory ran out.
    No weight is changed."""
    device = device_of(problem.network)
    batches = problem.plan(size, 0, 1)
    largest, middle = max(batches, key=problem.cells), usual(batches, problem.cells)
    problem.network.train()
    try:
        with PeakMemory(device) as memory:
            gradient(problem, settings, largest)
            gradient(problem, settings, middle)
            began, tokens = time.perf_counter(), 0
            while time.perf_counter() - began < TIMED_S:
                tokens += gradient(problem, settings, middle)
            took = time.perf_counter() - began
        return tokens / took, memory.peak_mb
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        return None
    finally:
        problem.network.zero_grad(set_to_none=True)


def gradient(problem: Trainable, settings: FitSection, rows: np.ndarray) -> int:
    """Compute a batch's gradient; how many tokens it has."""
    device = device_of(problem.network)
    problem.network.zero_grad(set_to_none=True)
    with computing(settings.precision, device):
        loss = problem.loss(problem.collate(rows))
    loss.backward()
    synchronise(device)
    return problem.tokens(rows)
