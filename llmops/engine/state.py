"""What the loop trains (Trainable), where it stands (State), and what makes two trainings the same one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from llmops.core.artifact import json_digest
from llmops.engine.config import FitSection


class Trainable(Protocol):
    """What a task hands to the loop: a network on its device, its training rows, its metric."""

    network: nn.Module
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
        """The batches of one epoch, the same for the same arguments; what their items mean is for `loss` to know."""

    def tokens(self, rows: np.ndarray) -> int:
        """Tokens in a batch of the plan, padding left out."""

    def loss(self, rows: np.ndarray) -> Tensor:
        """Mean loss over a batch of the plan."""

    def evaluate(self) -> dict[str, float]:
        """Figures on the validation rows; the network is in evaluation mode."""


@dataclass
class State:
    """Where a training stands; all of it goes into the checkpoint's JSON."""

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    loss_rows: int = 0
    best: float | None = None
    best_epoch: int = 0
    best_file: dict[str, str] | None = None
    waited: int = 0
    over: bool = False
    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    peak_memory_mb: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    """[step, loss, learning rate] at up to `CURVE_POINTS` places."""


def fingerprint(problem: Trainable, settings: FitSection, seed: int) -> str:
    """What makes two trainings the same one; checkpoints of another are not taken up."""
    lengths = problem.lengths
    return json_digest(
        {
            "settings": settings.model_dump(mode="json", exclude={"checkpoint_every_s"}),
            "head_rate": problem.head_rate,
            "seed": seed,
            "rows": [len(lengths), int(lengths.sum()), int((lengths * np.arange(len(lengths))).sum())],
            "parameters": [[name, list(value.shape)] for name, value in problem.network.named_parameters()],
        }
    )
