"""WritingProblem: what the engine trains for documents and conversations: cross-entropy on the tokens that count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmops.nets.causal import CausalReader
from llmops.tasks.text_generation.assess import Answers
from llmops.tasks.text_generation.config import GenerationTrainSection
from llmops.tasks.text_generation.packing import (
    Encoded,
    Laid,
    cells,
    first_lengths,
    lay,
    packed_steps,
    plan_windows,
    scoring_plan,
    windows,
)

Array = np.ndarray[Any, Any]

SCORING_CELLS = 1 << 21
"""Logits that a scoring batch holds at most..."""
SCORING_TOKENS = 4096
"""...and tokens."""


@dataclass(frozen=True)
class Reading:
    """How a data set is read: windows of `context` tokens; `documents` says that rows are parts of documents, and
    `vocabulary` how many tokens there are."""

    context: int
    documents: bool
    vocabulary: int

    def spans(self, data: Encoded) -> Array:
        """The texts that windows are cut from, int64 [texts, 2]."""
        return data.texts() if self.documents else data.rows()


class WritingProblem:
    """Windows are drawn from the texts; each step takes about `batch_size` times `context` tokens (`packing`), or
    `batch_size` windows. The loss is the mean over a step's tokens that count."""

    higher = False

    def __init__(
        self,
        network: nn.Module,
        train: Encoded,
        valid: Encoded,
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
        self.head_rate = settings.learning_rate
        self.spans = reading.spans(train)
        self.learnt = np.concatenate([[0], np.cumsum(train.trained)])

    @property
    def lengths(self) -> Array:
        """Tokens of each training row."""
        return self.train.lengths

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch."""
        if self.settings.packing:
            return packed_steps(self.spans, self.reading.context, batch_size)
        most = windows(self.spans, self.reading.context, np.ones(len(self.spans), np.int64))
        return -(-len(most) // batch_size)

    def plan(self, batch_size: int, seed: int, epoch: int) -> list[Array]:
        """The epoch's windows, cut elsewhere in each; batches are int64 [windows, 2], start and length."""
        cut = windows(self.spans, self.reading.context, first_lengths(self.spans, self.reading.context, seed, epoch))
        steps = self.steps(batch_size)
        return plan_windows(cut, steps, seed, epoch, by_tokens=self.settings.packing)

    def tokens(self, rows: Array) -> int:
        """Tokens that these windows read."""
        return int(rows[:, 1].sum())

    def cells(self, rows: Array) -> int:
        """Tokens that these windows are computed with."""
        return cells(rows)

    def weight(self, rows: Array) -> float:
        """Tokens that are learnt in these windows."""
        first = rows[:, 0] + 1
        return float((self.learnt[first + rows[:, 1]] - self.learnt[first]).sum())

    def step_weight(self, rows: Array, steps: int) -> float:
        """A step's own tokens: its loss is their mean."""
        return self.weight(rows)

    def collate(self, rows: Array) -> Laid:
        return lay(self.train, rows)

    def loss(self, batch: Laid) -> Tensor:
        return self.reader.mean_loss(batch.shapes, *self.tensors(batch.tokens, batch.places, batch.targets))

    def evaluate(self) -> dict[str, float]:
        """Figures of the answers to the validation rows."""
        return self.figures(self.answers(self.valid))

    def answers(self, data: Encoded) -> dict[str, Array]:
        """Raw answers to a split, see `raw_answers`."""
        return raw_answers(self.reader, data, self.reading, self.device)

    def tensors(self, *arrays: Array) -> list[Tensor]:
        """Arrays on the device."""
        return [torch.from_numpy(array).to(self.device) for array in arrays]


def scoring_tokens(vocabulary: int) -> int:
    """Tokens in a batch of scoring."""
    return max(1, min(SCORING_TOKENS, SCORING_CELLS // vocabulary))


def raw_answers(reader: CausalReader, data: Encoded, reading: Reading, device: torch.device) -> dict[str, Array]:
    """{"argmax": int32 [counted tokens], "logp": float32 [counted tokens]} of a split, in its order: the likeliest
    token at each place that counts, and the log-probability of the token that stands there."""
    cut = windows(reading.spans(data), reading.context)
    logp, argmax, keys = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)], [np.zeros((0, 2), np.int64)]
    with torch.no_grad():
        for rows in scoring_plan(cut, scoring_tokens(reading.vocabulary)):
            laid = lay(data, cut[rows])
            if not len(laid.places):
                continue
            arrays = [torch.from_numpy(one).to(device) for one in (laid.tokens, laid.places, laid.targets)]
            found, best = reader.log_probabilities(laid.shapes, *arrays)
            logp.append(found.float().cpu().numpy())
            argmax.append(best.cpu().numpy().astype(np.int32))
            # places of one window lie in order, whatever rectangle it is in
            keys.append(np.stack([rows[laid.owners], laid.places], 1))
    every = np.concatenate(keys)
    order = np.lexsort((every[:, 1], every[:, 0]))
    return {"argmax": np.concatenate(argmax)[order], "logp": np.concatenate(logp)[order]}
