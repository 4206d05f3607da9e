"""FewProblem: what the engine trains where a class has few rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from llmops.tasks.text_classification.few.config import FewSection
from llmops.tasks.text_classification.few.contrast import batches, contrastive_loss, plan_pairs
from llmops.tasks.text_classification.few.prototypes import begin_as_prototypes
from llmops.tasks.text_classification.problem import Batch, FrozenProblem, PretrainedProblem


class FewProblem(PretrainedProblem):
    """The loss on labels and, beside it, the contrastive one; the head begins as prototypes."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        assert self.settings.few is not None
        self.few: FewSection = self.settings.few
        self.network.eval()
        vectors = self.pooled(self.train)
        begin_as_prototypes(self.network.head, vectors, self.objective.labels, self.few.temperature)

    def steps(self, batch_size: int) -> int:
        if not self.few.contrast:
            return super().steps(batch_size)
        return batches(len(self.train), batch_size)

    def plan(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        if not self.few.contrast:
            return super().plan(batch_size, seed, epoch)
        return plan_pairs(self.train.labels, batch_size, seed, epoch)

    def loss(self, batch: Batch) -> Tensor:
        pooled = self.network.pooled(batch.tokens, batch.mask)
        wrong = self.objective.loss(self.network.classify(pooled), batch.rows)
        if not self.few.contrast:
            return wrong
        unit = functional.normalize(pooled, dim=-1)
        apart = contrastive_loss(unit.float(), self.objective.labels[batch.rows], self.few.temperature)
        return wrong + self.few.contrast * apart


class FrozenFewProblem(FrozenProblem):
    """Only the head is trained; it begins as prototypes."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        assert self.settings.few is not None
        labels, temperature = self.objective.labels, self.settings.few.temperature
        begin_as_prototypes(self.network.head, self.vectors[id(self.train)], labels, temperature)
