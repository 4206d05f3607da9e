"""A retrain that starts from the champion and is held to what it answers right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.nets.encoder import PretrainedClassifier
from llmops.tasks.text_classification.config import TextTrainSection, UpdateSection


@dataclass(frozen=True)
class Before:
    """The champion's network on the device that trains, and the labels that its logits stand for."""

    network: PretrainedClassifier
    labels: list[str]

    def shared(self, labels: list[str]) -> tuple[list[int], list[int]]:
        """Where the labels that are still there stood, and where they stand in `labels`."""
        pairs = [(old, labels.index(label)) for old, label in enumerate(self.labels) if label in labels]
        return [old for old, _ in pairs], [new for _, new in pairs]

    def hand_down_head(self, head: nn.Linear, labels: list[str]) -> None:
        """Give the labels that are still there the weights they had; new ones keep their fresh ones."""
        old, new = self.shared(labels)
        with torch.no_grad():
            head.weight[new] = self.network.head.weight[old].to(head.weight.device)
            head.bias[new] = self.network.head.bias[old].to(head.bias.device)


class Holding(Protocol):
    """What holds an update to the champion's right answers."""

    def loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """The divergence of logits [rows, labels] to these training rows: a scalar."""


@dataclass(frozen=True)
class Hold:
    """What the champion answers to the training rows: `logits` float32 [rows, shared labels], `columns` int64 where
    these labels stand now, `right` float32 [rows], 1 where its answer is the row's label."""

    settings: UpdateSection
    logits: Tensor
    columns: Tensor
    right: Tensor

    @classmethod
    def to(cls, settings: UpdateSection, before: Before, labels: list[str], logits: np.ndarray, truth: Tensor) -> Hold:
        """From the champion's logits to all training rows, float32 [rows, its labels]; `truth` int64 [rows] in the
        numbers of `labels`, whose device all is put on."""
        old, new = before.shared(labels)
        numbers = np.full(len(before.labels), -2)
        numbers[old] = new
        right = torch.from_numpy(numbers[logits.argmax(1)]).to(truth.device) == truth
        kept = torch.from_numpy(logits[:, old]).to(truth.device)
        return cls(settings, kept, torch.tensor(new, device=truth.device), right.float())

    def loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """The mean divergence from the champion's answers, weighed and scaled: a scalar. `logits` [rows, labels]."""
        softened = self.settings.temperature
        mine = functional.log_softmax(logits[:, self.columns] / softened, -1)
        wanted = functional.log_softmax(self.logits[rows] / softened, -1)
        apart = functional.kl_div(mine, wanted, reduction="none", log_target=True).sum(-1)
        return self.settings.hold * softened**2 * (apart * self.right[rows]).mean()


def slowed(train: TextTrainSection) -> TextTrainSection:
    """The settings with the learning rates of an update."""
    assert train.update is not None
    rate = train.update.rate
    return train.model_copy(
        update={"learning_rate": rate * train.learning_rate, "head_learning_rate": rate * train.head_rate()}
    )


def unfit(then: TextTrainSection, now: TextTrainSection) -> str:
    """Why a model trained with other settings cannot be the start; empty when it can."""
    for name in ("model", "pooling"):
        if getattr(then, name) != getattr(now, name):
            return f"its `{name}` is {getattr(then, name)}, and the config's {getattr(now, name)}"
    return ""
