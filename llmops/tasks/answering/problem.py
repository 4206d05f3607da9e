"""What the engine trains: questions beside their answers, the other answers of the batch as wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmops.engine.batching import Rowwise, scoring_batches
from llmops.engine.ragged import Ragged
from llmops.nets.slicing import SlicedEmbedding
from llmops.tasks.answering.config import AnsweringTrainSection
from llmops.tasks.answering.network import DualEncoder
from llmops.tasks.answering.ranking import blend, figures, ranks


@dataclass(frozen=True)
class Pairs:
    """What is trained and validated on. Questions' `labels` are the numbers of their rows' entries; `right` holds every
    right entry of each row, `negatives` int64 [training rows, n] entries that are wrong but look right, `shares` the
    validation rows' BM25 shares [rows, entries]."""

    train: Ragged
    valid: Ragged
    entries: Ragged
    right: list[frozenset[int]]
    valid_right: list[frozenset[int]]
    negatives: np.ndarray
    shares: np.ndarray


class PairProblem(Rowwise):
    """Multiple negatives ranking (Henderson et al. 2017): each question must find its answer among those of the batch.
    An answer that is right for two questions of the batch stands there once, and is wrong for neither. A batch that is
    computed in pieces, or by several processes, has fewer wrong answers: those of its piece."""

    def __init__(
        self,
        network: DualEncoder,
        pairs: Pairs,
        settings: AnsweringTrainSection,
        metric: str,
        lexical: float,
        pad: int,
        device: torch.device,
    ) -> None:
        self.settings, self.metric, self.lexical = settings, metric, lexical
        self.pairs, self.pad, self.device = pairs, pad, device
        self.head_rate = settings.head_learning_rate
        self.answers = beginning(pairs.entries, settings.train_tokens)
        self.slice = self.sliced(network) if settings.method == "full" and not settings.shard else None
        self.network = network.to(device)

    def sliced(self, network: DualEncoder) -> SlicedEmbedding:
        """Leave the tokens that occur nowhere out of the training."""
        pairs = self.pairs
        used = np.unique(np.concatenate([pairs.train.tokens, pairs.valid.tokens, pairs.entries.tokens]))
        return SlicedEmbedding(network.encoder, used)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each training row, question and answer together."""
        lengths: np.ndarray = self.pairs.train.lengths + self.answers.lengths[self.pairs.train.labels]
        return lengths

    def tensors(self, data: Ragged, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Tokens and mask (None when nothing is padded) of some rows, on the device."""
        tokens, mask = data.padded(rows, self.pad)
        known = torch.from_numpy(tokens)
        if self.slice is not None:
            known = self.slice.renumber(known)
        return known.to(self.device), None if mask is None else torch.from_numpy(mask).to(self.device)

    def vectors(self, data: Ragged, rows: np.ndarray) -> Tensor:
        """Vectors of some rows, float [rows, width]."""
        vectors: Tensor = self.network(*self.tensors(data, rows))
        return vectors

    def loss(self, rows: np.ndarray) -> Tensor:
        """Cross-entropy of each question over the batch's answers, and, where `symmetric`, of each answer over the
        batch's questions."""
        wanted = self.pairs.train.labels[rows]
        columns = np.unique(np.concatenate([wanted, self.pairs.negatives[rows].ravel()]))
        asked, answers = self.vectors(self.pairs.train, rows), self.vectors(self.answers, columns)
        scores = self.settings.scale * asked @ answers.T
        target = torch.from_numpy(np.searchsorted(columns, wanted)).to(self.device)
        also = torch.from_numpy(self.also_right(rows, columns, wanted)).to(self.device)
        loss = functional.cross_entropy(scores.masked_fill(also, float("-inf")), target)
        if not self.settings.symmetric:
            return loss
        back = scores[:, target].T
        others = torch.from_numpy(self.asked_too(rows, wanted)).to(self.device)
        places = torch.arange(len(rows), device=self.device)
        return (loss + functional.cross_entropy(back.masked_fill(others, float("-inf")), places)) / 2

    def also_right(self, rows: np.ndarray, columns: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """bool [rows, columns]: answers that are right for the row's question too, its own left out."""
        mask = np.zeros((len(rows), len(columns)), bool)
        for place, row in enumerate(rows):
            if len(self.pairs.right[row]) > 1:
                mask[place] = np.isin(columns, list(self.pairs.right[row])) & (columns != wanted[place])
        return mask

    def asked_too(self, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """bool [rows, rows]: other rows whose question the row's answer is right for as well."""
        mask = np.array([np.isin(wanted, list(self.pairs.right[row])) for row in rows]).T
        np.fill_diagonal(mask, False)
        return mask

    def all_vectors(self, data: Ragged) -> np.ndarray:
        """Vectors of all rows in their order, float32 [rows, width]."""
        return in_batches(lambda rows: self.vectors(data, rows), data.lengths)

    def evaluate(self) -> dict[str, float]:
        """recall_at_1, recall_at_5 and mrr of the validation questions over the whole index, and their loss over it."""
        similarity = self.all_vectors(self.pairs.valid) @ self.all_vectors(self.pairs.entries).T
        scores = blend(similarity, self.pairs.shares, self.lexical)
        found = figures(ranks(scores, self.pairs.valid_right))
        return {**found, "valid_loss": self.index_loss(similarity)}

    def index_loss(self, similarity: np.ndarray) -> float:
        """Mean cross-entropy of the validation questions over all entries, other right ones left out."""
        scores = torch.from_numpy(self.settings.scale * similarity)
        for row, (own, right) in enumerate(zip(self.pairs.valid.labels, self.pairs.valid_right, strict=True)):
            scores[row, sorted(right - {int(own)})] = float("-inf")
        return float(functional.cross_entropy(scores, torch.from_numpy(self.pairs.valid.labels)))

    def finish(self) -> None:
        """Undo what was only for the training."""
        if self.slice is not None:
            self.slice.restore()


class FrozenPairProblem(PairProblem):
    """Only the linear step is trained, so the encoder's vectors are computed once."""

    def __init__(
        self,
        network: DualEncoder,
        pairs: Pairs,
        settings: AnsweringTrainSection,
        metric: str,
        lexical: float,
        pad: int,
        device: torch.device,
    ) -> None:
        super().__init__(network, pairs, settings, metric, lexical, pad, device)
        self.network.eval()
        # the training answers are pooled whole: nothing is saved by cutting what is computed anyway
        self.answers = pairs.entries
        self.known = {id(data): self.pool_all(data) for data in (pairs.train, pairs.valid, pairs.entries)}

    def pool_all(self, data: Ragged) -> Tensor:
        """The encoder's own vectors of all rows, float32 [rows, width]."""
        pooled = in_batches(lambda rows: self.network.pooled(*self.tensors(data, rows)), data.lengths)
        return torch.from_numpy(pooled).to(self.device)

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(len(self.pairs.train), np.int64)

    def vectors(self, data: Ragged, rows: np.ndarray) -> Tensor:
        return self.network.project(self.known[id(data)][rows])


def beginning(data: Ragged, most: int | None) -> Ragged:
    """The rows cut to `most` tokens."""
    if most is None or not len(data) or int(data.lengths.max()) <= most:
        return data
    lengths = np.minimum(data.lengths, most)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.repeat(data.offsets[:-1] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Ragged(data.tokens[places], offsets, data.labels)


def in_batches(compute: Callable[[np.ndarray], Tensor], lengths: np.ndarray) -> np.ndarray:
    """`compute(rows)` for all rows, in batches of like length; float32 [rows, ...] in the rows' order."""
    parts: list[np.ndarray] = []
    order: list[np.ndarray] = []
    with torch.no_grad():
        for rows in scoring_batches(lengths):
            parts.append(compute(rows).float().cpu().numpy())
            order.append(rows)
    stacked = np.concatenate(parts)
    ordered = np.empty_like(stacked)
    ordered[np.concatenate(order)] = stacked
    return ordered
