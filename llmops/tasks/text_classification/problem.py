"""What the engine trains: a network with its rows, and what is asked of it (objective.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmops.engine.batching import Rowwise, scoring_batches
from llmops.engine.ragged import Ragged
from llmops.nets.encoder import PretrainedClassifier
from llmops.nets.slicing import SlicedEmbedding
from llmops.tasks.text_classification.config import TextTrainSection
from llmops.tasks.text_classification.objective import Objective, OneLabel
from llmops.tasks.text_classification.update import Holding


@dataclass(frozen=True)
class Batch:
    """`rows` of the training split; tokens and mask int64 [rows, longest], on the device, no mask where no row is
    padded."""

    rows: np.ndarray
    tokens: Tensor
    mask: Tensor | None


class TextProblem(Rowwise):
    """A network and its rows in padded batches."""

    def __init__(
        self,
        network: nn.Module,
        train: Ragged,
        valid: Ragged,
        settings: TextTrainSection,
        metric: str,
        pad: int,
        device: torch.device,
        objective: type[Objective] = OneLabel,
    ) -> None:
        self.settings, self.metric, self.pad, self.device = settings, metric, pad, device
        self.head_rate = settings.head_rate()
        self.train, self.valid = train, valid
        sliced = settings.pretrained and settings.method == "full" and not settings.shard
        self.slice = self.sliced(network) if sliced else None
        self.hold: Holding | None = None
        self.network = network.to(device)
        self.objective = objective(train.labels, settings, device)
        self.everything = self.objective.weight(np.arange(len(train)))

    def sliced(self, network: nn.Module) -> SlicedEmbedding:
        """Leave the tokens that occur in neither split out of the training."""
        assert isinstance(network, PretrainedClassifier)
        return SlicedEmbedding(network.encoder, np.union1d(self.train.tokens, self.valid.tokens))

    @property
    def lengths(self) -> np.ndarray:
        return self.train.lengths

    def batch(self, data: Ragged, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Tokens and mask (None when nothing is padded) of some rows, on the device."""
        tokens, mask = tensors(data, rows, self.pad)
        known = tokens if self.slice is None else self.slice.renumber(tokens)
        return known.to(self.device), None if mask is None else mask.to(self.device)

    def weight(self, rows: np.ndarray) -> float:
        return self.objective.weight(rows)

    def step_weight(self, rows: np.ndarray, steps: int) -> float:
        return self.everything / steps

    def collate(self, rows: np.ndarray) -> Batch:
        return Batch(rows, *self.batch(self.train, rows))

    def logits(self, batch: Batch) -> Tensor:
        return self.network(batch.tokens, batch.mask)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.logits(batch)
        wrong = self.objective.loss(logits, batch.rows)
        return wrong if self.hold is None else wrong + self.hold.loss(logits, batch.rows)

    def score(self, data: Ragged) -> np.ndarray:
        """Logits of all rows in their order, float32 [rows, classes]."""
        return score(lambda rows: self.network(*self.batch(data, rows)), data.lengths)

    def evaluate(self) -> dict[str, float]:
        """The metrics and the loss on the validation rows."""
        if not len(self.valid):
            return {self.metric: 0.0}  # nothing is held out: the last epoch is as good as any, and is kept
        return self.objective.figures(self.score(self.valid), self.valid.labels)

    def finish(self) -> None:
        """Undo what was only for the training."""
        if self.slice is not None:
            self.slice.restore()


class PretrainedProblem(TextProblem):
    """A pretrained encoder with its rows."""

    network: PretrainedClassifier

    def pooled(self, data: Ragged) -> Tensor:
        """The encoder's vectors of all rows, float32 [rows, hidden]; the network is in evaluation mode."""
        vectors = score(lambda rows: self.network.pooled(*self.batch(data, rows)), data.lengths)
        return torch.from_numpy(vectors).to(self.device)


class FrozenProblem(PretrainedProblem):
    """Only the head is trained, so the encoder's vectors are computed once."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.network.eval()
        with torch.no_grad():
            self.vectors = {id(data): self.pooled(data) for data in (self.train, self.valid)}

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


@dataclass(frozen=True)
class States:
    """Hidden states of a `teacher` that a student's are drawn to: those `after` so many of its layers, one for each of
    the student's; `weight` is what their distance counts, `pad` the teacher's padding id."""

    teacher: PretrainedClassifier
    after: list[int]
    weight: float
    pad: int

    def distance(self, student: tuple[Tensor, ...], tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Mean squared distance of the student's states [batch, length, width] from the teacher's, over what is no
        padding, in units of the latter's mean square (Jiao et al. 2020, TinyBERT)."""
        with torch.no_grad():
            told = self.teacher.encoder(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
        there = torch.ones_like(tokens) if mask is None else mask
        far = torch.zeros((), device=tokens.device)
        for place, ours in zip(self.after, student[1:], strict=True):
            theirs = told[place]
            apart, size = ((one.float() ** 2).mean(-1) * there for one in (ours - theirs, theirs))
            far = far + apart.sum() / size.sum()
        return self.weight * far / len(self.after)


class DistilProblem(TextProblem):
    """A student learns the teacher's softened answers and the labels (Hinton et al. 2015), and what the teacher's
    layers make of a text."""

    teacher: Tensor
    temperature: float
    states: States | None = None

    def loss(self, batch: Batch) -> Tensor:
        far: Tensor | float = 0.0
        if self.states is None:
            logits = self.logits(batch)
        else:
            assert isinstance(self.network, PretrainedClassifier)
            found, pooled = self.network.stated(batch.tokens, batch.mask)
            logits = self.network.classify(pooled)
            # the teacher's tokens are not numbered as the student's slice is
            far = self.states.distance(found, *tensors(self.train, batch.rows, self.states.pad, self.device))
        likeness = self.objective.likeness(logits, self.teacher[batch.rows], self.temperature)
        return likeness + self.objective.loss(logits, batch.rows) + far


def tensors(
    data: Ragged, rows: np.ndarray, pad: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor | None]:
    """Tokens and mask (None when nothing is padded) of some rows, int64 [len(rows), longest]."""
    tokens, mask = data.padded(rows, pad)
    return torch.from_numpy(tokens).to(device), None if mask is None else torch.from_numpy(mask).to(device)


def score(answer: Callable[[np.ndarray], Tensor], lengths: np.ndarray) -> np.ndarray:
    """`answer(rows)` for all rows, in batches of like length; float32 [rows, ...] in the rows' order."""
    if not len(lengths):
        return np.zeros((0, 0), np.float32)
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
