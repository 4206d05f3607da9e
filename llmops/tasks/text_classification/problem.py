"""What the engine trains: a network with its rows, its loss and its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.engine.batching import Rowwise, scoring_batches
from llmops.engine.ragged import Ragged
from llmops.nets.encoder import PretrainedClassifier
from llmops.nets.slicing import SlicedEmbedding
from llmops.tasks.text_classification.config import TextTrainSection
from llmops.tasks.text_classification.metrics import scores
from llmops.tasks.text_classification.update import Hold


@dataclass(frozen=True)
class Batch:
    """`rows` of the training split; tokens and mask int64 [rows, longest], on the device, no mask where no row is
    padded."""

    rows: np.ndarray
    tokens: Tensor
    mask: Tensor | None


class TextProblem(Rowwise):
    """Cross-entropy on padded batches."""

    def __init__(
        self,
        network: nn.Module,
        train: Ragged,
        valid: Ragged,
        settings: TextTrainSection,
        metric: str,
        pad: int,
        device: torch.device,
    ) -> None:
        self.settings, self.metric, self.pad, self.device = settings, metric, pad, device
        self.head_rate = settings.head_rate()
        self.train, self.valid = train, valid
        sliced = settings.pretrained and settings.method == "full" and not settings.shard
        self.slice = self.sliced(network) if sliced else None
        self.hold: Hold | None = None
        self.network = network.to(device)
        self.labels = torch.from_numpy(train.labels).to(device)
        self.weights = class_weights(train.labels).to(device) if settings.class_weights == "balanced" else None

    def sliced(self, network: nn.Module) -> SlicedEmbedding:
        """Leave the tokens that occur in neither split out of the training."""
        assert isinstance(network, PretrainedClassifier)
        return SlicedEmbedding(network.encoder, np.union1d(self.train.tokens, self.valid.tokens))

    @property
    def lengths(self) -> np.ndarray:
        return self.train.lengths

    def batch(self, data: Ragged, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Tokens and mask (None when nothing is padded) of some rows, on the device."""
        tokens, mask = data.padded(rows, self.pad)
        known = torch.from_numpy(tokens)
        if self.slice is not None:
            known = self.slice.renumber(known)
        return known.to(self.device), None if mask is None else torch.from_numpy(mask).to(self.device)

    def weight(self, rows: np.ndarray) -> float:
        return float(len(rows)) if self.weights is None else float(self.weights[self.labels[rows]].sum())

    def step_weight(self, rows: np.ndarray, steps: int) -> float:
        return (
            super().step_weight(rows, steps) if self.weights is None else float(self.weights[self.labels].sum()) / steps
        )

    def collate(self, rows: np.ndarray) -> Batch:
        return Batch(rows, *self.batch(self.train, rows))

    def logits(self, batch: Batch) -> Tensor:
        return self.network(batch.tokens, batch.mask)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.logits(batch)
        wrong = functional.cross_entropy(
            logits, self.labels[batch.rows], weight=self.weights, label_smoothing=self.settings.label_smoothing
        )
        return wrong if self.hold is None else wrong + self.hold.loss(logits, batch.rows)

    def score(self, data: Ragged) -> np.ndarray:
        """Logits of all rows in their order, float32 [rows, classes]."""
        return score(lambda rows: self.network(*self.batch(data, rows)), data.lengths)

    def evaluate(self) -> dict[str, float]:
        """The metrics and the loss on validation rows that belong to a class."""
        return figures(self.score(self.valid), self.valid.labels)

    def finish(self) -> None:
        """Undo what was only for the training."""
        if self.slice is not None:
            self.slice.restore()


class FrozenProblem(TextProblem):
    """Only the head is trained, so the encoder's vectors are computed once."""

    network: PretrainedClassifier

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.network.eval()
        with torch.no_grad():
            self.vectors = {id(data): self.pooled(data) for data in (self.train, self.valid)}

    def pooled(self, data: Ragged) -> Tensor:
        """The encoder's vectors of all rows, float32 [rows, hidden]."""
        vectors = score(lambda rows: self.network.pooled(*self.batch(data, rows)), data.lengths)
        return torch.from_numpy(vectors).to(self.device)

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(len(self.train), np.int64)

    def collate(self, rows: np.ndarray) -> Batch:
        return Batch(rows, self.vectors[id(self.train)][rows], None)

    def logits(self, batch: Batch) -> Tensor:
        """Of vectors instead of tokens."""
        return self.network.classify(batch.tokens)

    def score(self, data: Ragged) -> np.ndarray:
        logits: np.ndarray = self.network.classify(self.vectors[id(data)]).cpu().numpy()
        return logits


class DistilProblem(TextProblem):
    """A student learns the teacher's softened answers and the labels (Hinton et al. 2015)."""

    teacher: Tensor
    temperature: float

    def loss(self, batch: Batch) -> Tensor:
        logits = self.logits(batch)
        soft = functional.log_softmax(logits / self.temperature, -1)
        wanted = functional.log_softmax(self.teacher[batch.rows] / self.temperature, -1)
        likeness = functional.kl_div(soft, wanted, reduction="batchmean", log_target=True) * self.temperature**2
        return likeness + functional.cross_entropy(logits, self.labels[batch.rows])


def score(answer: Callable[[np.ndarray], Tensor], lengths: np.ndarray) -> np.ndarray:
    """`answer(rows)` for all rows, in batches of like length; float32 [rows, ...] in the rows' order."""
    parts: list[np.ndarray] = []
    order: list[np.ndarray] = []
    with torch.no_grad():
        for rows in scoring_batches(lengths):
            parts.append(answer(rows).float().cpu().numpy())
            order.append(rows)
    stacked = np.concatenate(parts)
    ordered = np.empty_like(stacked)
    ordered[np.concatenate(order)] = stacked
    return ordered


def figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """accuracy, f1_macro, f1_weighted, balanced_accuracy, valid_loss of the rows that belong to a class."""
    inside = labels >= 0
    found = scores(labels, logits.argmax(1), logits.shape[1])
    if not inside.any():
        return {**found, "valid_loss": 0.0}
    loss = functional.cross_entropy(torch.from_numpy(logits[inside]), torch.from_numpy(labels[inside]))
    return {**found, "valid_loss": float(loss)}


def class_weights(labels: np.ndarray) -> Tensor:
    """rows / (classes * count of the class), float32 [classes] (King and Zeng 2001; scikit-learn's `balanced`)."""
    counts = np.bincount(labels)
    return torch.from_numpy((len(labels) / (len(counts) * np.maximum(counts, 1))).astype(np.float32))
