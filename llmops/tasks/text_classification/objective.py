"""What a training asks of logits: `Objective`, and `OneLabel`, of which exactly one label is right."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmops.tasks.text_classification.calibration import softmax
from llmops.tasks.text_classification.config import TextTrainSection
from llmops.tasks.text_classification.metrics import figures


class Objective(Protocol):
    """All that differs in a training between one label a text and several. `rows` are numbers of training rows."""

    labels: Tensor
    """Of the training rows, on the device."""

    def __init__(self, labels: np.ndarray, settings: TextTrainSection, device: torch.device) -> None:
        """The labels of the training rows, as `engine.ragged.Ragged` holds them."""

    def weight(self, rows: np.ndarray) -> float:
        """What these rows count; the mean that `loss` takes divides by it."""

    def loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Mean loss of logits [rows, labels]: a scalar."""

    def likeness(self, logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """How far logits are from a teacher's, both [rows, labels] and softened by `temperature`: a scalar."""

    def figures(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """The metrics and "valid_loss" of logits float32 [rows, labels] to validation rows."""


class OneLabel:
    """Cross-entropy over the labels. `labels` int64 [rows]."""

    def __init__(self, labels: np.ndarray, settings: TextTrainSection, device: torch.device) -> None:
        self.labels = torch.from_numpy(labels).to(device)
        self.smoothing = settings.label_smoothing
        self.weights = class_weights(labels).to(device) if settings.class_weights == "balanced" else None

    def weight(self, rows: np.ndarray) -> float:
        return float(len(rows)) if self.weights is None else float(self.weights[self.labels[rows]].sum())

    def loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        return functional.cross_entropy(logits, self.labels[rows], weight=self.weights, label_smoothing=self.smoothing)

    def likeness(self, logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """Hinton et al. 2015."""
        soft = functional.log_softmax(logits / temperature, -1)
        aim = functional.log_softmax(wanted / temperature, -1)
        return functional.kl_div(soft, aim, reduction="batchmean", log_target=True) * temperature**2

    def figures(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """accuracy and its kin of the rows that belong to a class (label 0 or above)."""
        inside = labels >= 0
        found = figures(labels, softmax(logits))
        if not inside.any():
            return {**found, "valid_loss": 0.0}
        loss = functional.cross_entropy(torch.from_numpy(logits[inside]), torch.from_numpy(labels[inside]))
        return {**found, "valid_loss": float(loss)}


def class_weights(labels: np.ndarray) -> Tensor:
    """rows / (classes * count of the class), float32 [classes] (King and Zeng 2001; scikit-learn's `balanced`)."""
    counts = np.bincount(labels)
    return torch.from_numpy((len(labels) / (len(counts) * np.maximum(counts, 1))).astype(np.float32))
