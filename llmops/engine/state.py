"""What the loop trains (Trainable), where it stands (State), and what makes two trainings the same one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from llmops.core.artifact import json_digest
from llmops.engine.config import FitSection

UNIMPORTANT = {"checkpoint_every_s", "processes"}
"""Settings that change nothing in the result: a training may go on with others."""


class Trainable(Protocol):
    """What a task hands to the loop: a network on its device, its training rows, its metric."""

    network: Any
    metric: str
    """Which of `evaluate`'s figures early stopping goes by."""

    higher: bool
    """Whether a higher figure is the better one."""

    head_rate: float
    """Peak learning rate of the parameters whose names begin with `head.`; the others have the settings'."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each training row, int64 [rows]."""

    def steps(self, batch_size: int) -> int:
        """Batches that `plan` makes of every epoch."""

    def plan(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch, the same for the same arguments; what their items mean is for `collate` to know."""

    def tokens(self, rows: np.ndarray) -> int:
        """Tokens in a batch of the plan, padding left out."""

    def cells(self, rows: np.ndarray) -> int:
        """Tokens in a batch of the plan, padding with them: what computing it costs."""

    def weight(self, rows: np.ndarray) -> float:
        """What a batch counts: rows, or tokens that are learnt. The mean that `loss` takes divides by it."""

    def step_weight(self, rows: np.ndarray, steps: int) -> float:
        """What the sum over a step's rows is divided by, when an epoch has so many steps."""

    def collate(self, rows: np.ndarray) -> Any:
        """What `loss` takes, as arrays or tensors on the CPU. Draws no random number; may run in another thread."""

    def loss(self, batch: Any) -> Tensor:
        """Mean loss over what `collate` gave."""

    def evaluate(self) -> dict[str, float]:
        """Figures on the validation rows; the network is in evaluation mode."""


@dataclass
class State:
    """Where a training stands; all of it goes into the checkpoint's JSON. What a step draws depends on the seed and its
    number alone (device.seed_step), so there is no generator's state to keep."""

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    loss_weight: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    best_file: dict[str, str] | None = None
    waited: int = 0
    over: bool = False
    parts: int = 1
    """Pieces that a batch is computed in, since memory ran out."""
    seconds: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds by phase, see clock.py."""
    rows: int = 0
    tokens: int = 0
    peak_memory_mb: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    """step, loss, learning_rate, seconds, tokens_per_s, memory_mb at up to `CURVE_POINTS` places."""
    machine: dict[str, Any] = field(default_factory=dict)
    """What a finished training was computed with, and how well the machine was used (flops.py)."""


def fingerprint(problem: Trainable, settings: FitSection, seed: int) -> str:
    """What makes two trainings the same one; checkpoints of another are not taken up."""
    lengths = problem.lengths
    return json_digest(
        {
            "settings": settings.model_dump(mode="json", exclude=UNIMPORTANT),
            "head_rate": problem.head_rate,
            "seed": seed,
            "rows": [len(lengths), int(lengths.sum()), int((lengths * np.arange(len(lengths))).sum())],
            "parameters": shapes(problem.network),
        }
    )


def shapes(network: nn.Module) -> list[Any]:
    return [[name, list(value.shape)] for name, value in network.named_parameters()]
