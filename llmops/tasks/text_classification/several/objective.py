"""LabelsObjective: what a training asks of logits where a text may have several labels: each is its own question."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmops.tasks.text_classification.config import TextTrainSection
from llmops.tasks.text_classification.several.thresholds import at_common_cut

MOST_WEIGHT = 100.0
"""A label of fewer rows than one in so many weighs no more."""


class LabelsObjective:
    """Independent logistic losses (binary cross-entropy), the mean over labels. `labels` uint8 [rows, labels]."""

    def __init__(self, labels: np.ndarray, settings: TextTrainSection, device: torch.device) -> None:
        self.labels = torch.from_numpy(labels).to(device)
        self.smoothing = settings.label_smoothing
        self.weights = positive_weights(labels).to(device) if settings.class_weights == "balanced" else None

    def weight(self, rows: np.ndarray) -> float:
        return float(len(rows))

    def loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Smoothing moves each target by half of it towards one half (Szegedy et al. 2016, for two classes)."""
        wanted = self.labels[rows].float() * (1 - self.smoothing) + self.smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits.float(), wanted, pos_weight=self.weights)

    def likeness(self, logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """The teacher's softened probabilities as targets of each label (Hinton et al. 2015)."""
        return divergence(logits, wanted, temperature).mean() * temperature**2

    def figures(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """The metrics at the one cut of all labels that is best on these rows, for thresholds are chosen afterwards;
        and the loss."""
        loss = functional.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels).float())
        return {**at_common_cut(logits, labels), "valid_loss": float(loss)}


def divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence of each label's yes and no from a teacher's, both softened: float like
    `logits`."""
    aim, mine = wanted.float() / temperature, logits.float() / temperature
    chance = torch.sigmoid(aim)
    yes = chance * (functional.logsigmoid(aim) - functional.logsigmoid(mine))
    no = (1 - chance) * (functional.logsigmoid(-aim) - functional.logsigmoid(-mine))
    return yes + no


def positive_weights(labels: np.ndarray) -> Tensor:
    """What a row with a label weighs against one without: rows without / rows with, float32 [labels], so that both
    sides weigh the same in all, as scikit-learn's `balanced` does for each label (King and Zeng 2001)."""
    have = labels.sum(0, dtype=np.int64)
    return torch.from_numpy(np.minimum((len(labels) - have) / np.maximum(have, 1), MOST_WEIGHT).astype(np.float32))
