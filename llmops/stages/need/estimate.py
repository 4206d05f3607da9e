"""What training and tuning will take on this machine: from the learner's probe, compared with the limits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from llmops.core.errors import MachineError
from llmops.core.protocols import Job
from llmops.core.section import Section
from llmops.stages.need.config import NeedSection

Estimate = dict[str, float]
"""train_s, train_s_upper, epoch_s, tune_s, peak_memory_mb, training_memory_mb, memory_limit_mb, parameters,
disk_mb ..."""

Source = Path | list[dict[str, Any]]
"""What a learner probes: a data set's folder, or rows that it encodes itself."""


def foresee(job: Job, source: Source, seconds: float) -> Estimate:
    """Probe the planned training on `source` for about `seconds` and add the planned tuning."""
    train = job.sections["train"]
    found = _probe(job, train, source, seconds)
    tune: Any = job.sections.get("tune")
    largest = largest_batch(tune, train)
    if largest is not None:
        other = _probe(job, largest, source, seconds / 2)
        found |= {name: max(found[name], other[name]) for name in ("peak_memory_mb", "training_memory_mb")}
    if tune is not None:
        found["disk_mb"] *= 2  # a trial's checkpoints, and the best trial's model
    return {**found, "tune_s": tuning_s(tune, found)}


def _probe(job: Job, train: Section, source: Source, seconds: float) -> Estimate:
    """What the learner's probe tells, and training_memory_mb: of its peak, what training added to what the process held
    anyway (libraries)."""
    from llmops.engine.device import choose_device
    from llmops.engine.memory import settled_mb

    learner: Any = job.task.learner(job.sections["task"], train, job.seed)
    found = {name: float(value) for name, value in learner.probe(source, seconds, job.room).items()}
    del learner
    settled = settled_mb(choose_device(getattr(train, "device", "cpu")))
    return {**found, "training_memory_mb": max(0.0, found["peak_memory_mb"] - settled)}


def largest_batch(tune: Any, train: Any) -> Section | None:
    """The train section with the largest batch that tune may try, when that is more than the config's own."""
    axis = tune.space.get("batch_size") if tune is not None else None
    sizes = [] if axis is None else [int(size) for size in axis.log or axis.uniform or axis.choice if size != "auto"]
    own = getattr(train, "batch_size", "auto")
    least = own if isinstance(own, int) else 0
    return train.model_copy(update={"batch_size": max(sizes)}) if max(sizes, default=0) > least else None


def tuning_s(tune: Any, estimate: Estimate) -> float:
    """Seconds of tuning at most: every trial in full, or the budget and the epoch that is running when it ends."""
    if tune is None:
        return 0.0
    whole = (tune.trials - 1) * estimate["train_s"]
    return float(whole if tune.seconds is None else min(whole, tune.seconds + estimate["epoch_s"]))


def refuse_what_cannot_fit(need: NeedSection, estimate: Estimate, disk_mb: float, length: str = "max_tokens") -> None:
    """Raise MachineError, with the numbers, for a plan beyond the limits.

    `disk_mb` is what is free where runs are written; `length` is the task's setting that bounds how long a row is.
    """
    memory_mb = estimate["memory_limit_mb"]
    limit_mb = min(need.max_memory_mb or memory_mb, memory_mb)
    peak = estimate["peak_memory_mb"]
    if peak > limit_mb:
        whose = (
            "need.max_memory_mb allows"
            if need.max_memory_mb and need.max_memory_mb <= memory_mb
            else "this machine has"
        )
        raise MachineError(
            f"the training would take about {peak:,.0f} MB of memory; {whose} {limit_mb:,.0f} MB",
            "need.max_memory_mb",
            f"lower `train.batch_size` or `task.{length}`, or take a smaller `train.model`",
        )
    hours = (estimate["train_s"] + estimate["tune_s"]) / 3600
    if need.max_hours is not None and hours > need.max_hours:
        raise MachineError(
            f"training ({estimate['train_s']:,.0f} s) and tuning ({estimate['tune_s']:,.0f} s) would take about"
            f" {hours:.3g} hours; need.max_hours allows {need.max_hours:g}",
            "need.max_hours",
            "lower `train.epochs` or `tune.trials`, set `tune.seconds`, or take a smaller `train.model`",
        )
    if estimate["disk_mb"] > disk_mb:
        raise MachineError(
            f"training needs about {estimate['disk_mb']:,.0f} MB of disk; {disk_mb:,.0f} MB are free",
            "runs/",
            "free some: llmops clean CONFIG",
        )


def free_disk_mb(place: Path) -> float:
    """Free space of the file system that `place` lies on, 1 MB = 1e6 bytes."""
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e6
