"""Which rows go together: batches of like length and equally many tokens, shuffled by seed and epoch. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

SCORING_TOKENS = 4096
SCORING_ROWS = 256


class Rowwise:
    """The plan of problems whose training rows stay as they are: an epoch has each once, with others of its length."""

    higher = True

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each training row, int64 [rows]."""
        raise NotImplementedError

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch."""
        return steps_per_epoch(self.lengths, batch_size)

    def plan(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch as arrays of row numbers."""
        return plan_epoch(self.lengths, batch_size, seed, epoch)

    def tokens(self, rows: np.ndarray) -> int:
        """Tokens in these rows."""
        return int(self.lengths[rows].sum())

    def cells(self, rows: np.ndarray) -> int:
        """Tokens in these rows, and the padding that they are computed with."""
        return padded_cells(self.lengths, rows)

    def weight(self, rows: np.ndarray) -> float:
        """What these rows count: the mean that `loss` takes divides by it."""
        return float(len(rows))

    def step_weight(self, rows: np.ndarray, steps: int) -> float:
        """What a step's sum is divided by when an epoch has so many: the mean weight of a step, whatever this one's
        rows are, so that a row counts the same in every batch."""
        return len(self.lengths) / steps

    def collate(self, rows: np.ndarray) -> Any:
        """What `loss` takes; the rows themselves where they need no preparation."""
        return rows


def plan_epoch(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch as arrays of row numbers; the same for the same arguments, on every machine.

    All rows are shuffled, sorted by length without disturbing the order of equals, cut into batches of about equally
    many tokens, and the batches are shuffled: each row occurs once, neighbours change with every epoch, and hardly
    anything is padding.
    """
    chance = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = chance.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches = cut_evenly(lengths[order], steps_per_epoch(lengths, batch_size))
    return [order[batches[index]] for index in chance.permutation(len(batches))]


def cut_evenly(lengths: np.ndarray, parts: int) -> list[slice]:
    """Neighbouring rows in `parts` parts of about equally many tokens, none of them empty when no row is longer than
    a part."""
    ends = np.cumsum(lengths)
    middles = ends - lengths / 2
    places = np.searchsorted(middles, np.arange(1, parts) * (ends[-1] / parts))
    edges = [0, *places.tolist(), len(lengths)]
    return [slice(start, end) for start, end in pairwise(edges)]


def steps_per_epoch(lengths: np.ndarray, batch_size: int) -> int:
    """How many batches `plan_epoch` makes: `batch_size` rows each on average, and never less than the longest row."""
    return max(1, min(-(-len(lengths) // batch_size), int(lengths.sum()) // int(lengths.max())))


def scoring_batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Row numbers, longest first, in batches whose padded size stays within what caches like."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = min(SCORING_ROWS, max(1, SCORING_TOKENS // int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def padded_cells(lengths: np.ndarray, rows: np.ndarray) -> int:
    """Size of a batch whose rows are padded to the longest."""
    return len(rows) * int(lengths[rows].max())


def usual(batches: Sequence[np.ndarray], cells: Callable[[np.ndarray], int]) -> np.ndarray:
    """The batch of middle size: what a usual step computes."""
    return sorted(batches, key=cells)[len(batches) // 2]
