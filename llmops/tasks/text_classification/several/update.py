"""An update of a model that gives several labels: held to each answer that the champion gives right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmops.tasks.text_classification.config import UpdateSection
from llmops.tasks.text_classification.several.objective import divergence
from llmops.tasks.text_classification.update import Before


@dataclass(frozen=True)
class LabelsHold:
    """What the champion answers to the training rows: `logits` float32 [rows, shared labels], `columns` int64 where
    these labels stand now, `right` float32 [rows, shared labels], 1 where it gives the label to a row that has it, or
    does not to one that has not."""

    settings: UpdateSection
    logits: Tensor
    columns: Tensor
    right: Tensor

    @classmethod
    def to(
        cls, settings: UpdateSection, before: Before, labels: list[str], logits: np.ndarray, truth: Tensor
    ) -> LabelsHold:
        """From the champion's logits to all training rows, float32 [rows, its labels]; `truth` uint8 [rows, labels],
        whose device all is put on."""
        old, new = before.shared(labels)
        kept, columns = torch.from_numpy(logits[:, old]).to(truth.device), torch.tensor(new, device=truth.device)
        right = (kept >= 0) == truth[:, columns].bool()
        return cls(settings, kept, columns, right.float())

    def loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """The mean divergence from the champion's answers, weighed and scaled: a scalar. `logits` [rows, labels]."""
        softened = self.settings.temperature
        apart = divergence(logits[:, self.columns], self.logits[rows], softened) * self.right[rows]
        return self.settings.hold * softened**2 * apart.sum() / max(1, apart.numel())
