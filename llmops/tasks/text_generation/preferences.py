"""PreferenceProblem: the model learns to prefer chosen answers to rejected ones, held to the model it started from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.engine.batching import Rowwise
from llmops.nets.causal import CausalReader
from llmops.tasks.text_generation.assess import Answers
from llmops.tasks.text_generation.config import GenerationTrainSection
from llmops.tasks.text_generation.packing import Encoded, Laid, cells, lay
from llmops.tasks.text_generation.problem import Reading, raw_answers

Array = np.ndarray[Any, Any]


class PreferenceProblem(Rowwise):
    """Direct preference optimisation (Rafailov et al. 2023): -log sigmoid(beta * (gain of the chosen answer - gain of
    the rejected one)), where an answer's gain is its log-probability less what the model gave it before training.
    Beside it stands, `chosen_weight` times, the chosen answer's loss, in nats a token (Pang et al. 2024).

    Rows 2i and 2i + 1 of the data are a pair. `reference` float32 [training rows] holds the log-probabilities before.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Encoded,
        valid: Encoded,
        reference: Array,
        reading: Reading,
        settings: GenerationTrainSection,
        metric: str,
        device: torch.device,
        figures: Callable[[Answers], dict[str, float]],
    ) -> None:
        self.network = network.to(device)
        self.reader = CausalReader(network, settings.dropout)
        self.train, self.valid, self.reading = train, valid, reading
        self.settings, self.metric, self.device, self.figures = settings, metric, device, figures
        self.higher = metric == "reward_accuracy"
        self.head_rate = settings.learning_rate
        self.reference = torch.from_numpy(reference).to(device)

    @property
    def lengths(self) -> Array:
        """Tokens of each pair, both answers."""
        return self.train.lengths[0::2] + self.train.lengths[1::2]

    def cells(self, rows: Array) -> int:
        """Tokens that these pairs are computed with."""
        return cells(self.windows(pairs(rows)))

    def collate(self, rows: Array) -> tuple[Array, Laid]:
        """The rows of these pairs, as they are laid out."""
        both = pairs(rows)
        return both, lay(self.train, self.windows(both))

    def loss(self, batch: tuple[Array, Laid]) -> Tensor:
        both, laid = batch
        found = self.log_probabilities(laid, len(both))
        gain = found - self.reference[both]
        preferred = -functional.logsigmoid(self.settings.beta * (gain[0::2] - gain[1::2])).mean()
        if not self.settings.chosen_weight:
            return preferred
        counts = torch.from_numpy(np.bincount(laid.owners, minlength=len(both))[0::2]).to(self.device)
        return preferred - self.settings.chosen_weight * (found[0::2] / counts.clamp(min=1)).mean()

    def log_probabilities(self, laid: Laid, rows: int) -> Tensor:
        """Summed log-probability of each row's answer, float32 [rows]."""
        arrays = (torch.from_numpy(one).to(self.device) for one in (laid.tokens, laid.places, laid.targets))
        each, _ = self.reader.log_probabilities(laid.shapes, *arrays)
        owners = torch.from_numpy(laid.owners).to(self.device)
        return torch.zeros(rows, device=self.device).index_add(0, owners, each)

    def windows(self, rows: Array) -> Array:
        """Each row as one window, int64 [len(rows), 2], start and length."""
        return np.stack([self.train.offsets[rows], np.maximum(self.train.lengths[rows] - 1, 1)], 1)

    def evaluate(self) -> dict[str, float]:
        """Figures of the answers to the validation pairs."""
        return self.figures(raw_answers(self.reader, self.valid, self.reading, self.device))


def pairs(rows: Array) -> Array:
    """The numbers of both answers of these pairs, chosen and rejected in turn, int64 [2 * len(rows)]."""
    return np.stack([2 * rows, 2 * rows + 1], 1).ravel()
