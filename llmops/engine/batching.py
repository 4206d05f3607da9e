"""Which rows go together: batches of nearly equal length, shuffled by seed and epoch. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

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
        return steps_per_epoch(len(self.lengths), batch_size)

    def plan(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """The batches of one epoch as arrays of row numbers."""
        return plan_epoch(self.lengths, batch_size, seed, epoch)

    def tokens(self, rows: np.ndarray) -> int:
        """Tokens in these rows."""
        return int(self.lengths[rows].sum())


def plan_epoch(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch as arrays of row numbers; the same for the same arguments, on every machine.

    All rows are shuffled, sorted by length without disturbing the order of equals, cut, and the batches are
    shuffled: each row occurs once, neighbours change with every epoch, and hardly anything is padding.
    """
    chance = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = chance.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[index] for index in chance.permutation(len(batches))]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """How many batches `plan_epoch` makes."""
    return -(-rows // batch_size)


def scoring_batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Row numbers, longest first, in batches whose padded size stays within what caches like."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = min(SCORING_ROWS, max(1, SCORING_TOKENS // int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Share of a plan's cells that are padding, 0 to 1."""
    cells = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1.0 - float(lengths[np.concatenate(batches)].sum()) / cells
