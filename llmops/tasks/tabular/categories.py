"""Categories as numbers: few values spread over columns, many values by what the target is where they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]
MANY = 16
"""More values than this are not spread over columns."""
RARE_ROWS, RARE_SHARE = 5, 0.002
"""Values with fewer rows (and a smaller share) than these have no column of their own: they look like new ones."""
SMOOTHING = 10.0
"""Rows of the overall mean that each value's mean is mixed with (Micci-Barreca 2001)."""
FOLDS = 5
MOST_CLASSES = 5
"""Of more classes than this, a value's means would be too many columns; then only its frequency is told."""


@dataclass(frozen=True)
class Spread:
    """One column for each frequent value, and one for missing ones; a value never seen is 0 in all."""

    values: list[str]

    @classmethod
    def fit(cls, column: Values) -> Spread:
        """The values with enough rows, the most frequent first; of two values one column is enough."""
        counts = Counter(column.tolist())
        del counts[None]
        least = min(RARE_ROWS, max(2, RARE_SHARE * len(column))) if len(column) < 500 else RARE_ROWS
        frequent = [value for value, n in counts.most_common() if n >= least]
        if len(frequent) == len(counts) == 2:
            return cls(sorted(frequent)[:1])
        return cls(frequent)

    @cached_property
    def _number(self) -> dict[Any, int]:
        return {value: place for place, value in enumerate([*self.values, None])}

    def fill(self, out: Values, column: Values) -> None:
        out[:] = 0.0
        codes = known_codes(column, self._number)
        seen = np.flatnonzero(codes >= 0)
        out[seen, codes[seen]] = 1.0


@dataclass(frozen=True)
class TargetMeans:
    """The smoothed mean of the target at each value (of each class but the first, where there are classes), and the
    logarithm of how frequent it is. A value never seen gets the overall mean.

    The overall mean is that of all training rows, for those themselves too: it is the same for all of them, so that it
    tells none of them its own target, and one of other folds would.
    """

    counts: dict[str, float]
    sums: dict[str, list[float]]
    overall: list[float]
    rows: int

    @classmethod
    def fit(cls, column: Values, target: Values, classes: int) -> TargetMeans:
        aims = _aims(target, classes)
        found, codes = coded(column)
        names = [MISSING if name is None else name for name in found]
        counts = np.bincount(codes, minlength=len(names)).astype(float)
        sums = np.stack([counts, *(np.bincount(codes, weights=aim, minlength=len(names)) for aim in aims.T)], axis=1)
        return cls(
            dict(zip(names, counts.tolist(), strict=True)),
            dict(zip(names, sums[:, 1:].tolist(), strict=True)),
            [float(mean) for mean in aims.mean(axis=0)],
            len(column),
        )

    def names(self, column: str) -> list[str]:
        """What the features are called."""
        means = [f"{column}: outcome" + (f" {n + 1}" if n else "") for n in range(len(self.overall))]
        return [*means, f"{column}: frequency"]

    @cached_property
    def _told(self) -> tuple[dict[Any, int], Values]:
        """Each value's number, and float64 [values + 1, features]: what it is told as; last what no value is."""
        counts = np.array([*self.counts.values(), 0.0])
        sums = np.zeros((len(counts), len(self.overall)))
        sums[:-1] = np.array(list(self.sums.values())).reshape(len(counts) - 1, -1)
        means = (sums + SMOOTHING * np.array(self.overall)) / (counts[:, None] + SMOOTHING)
        number: dict[Any, int] = {None if name == MISSING else name: place for place, name in enumerate(self.counts)}
        return number, np.column_stack([means, np.log((counts + 1) / (self.rows + 1))])

    def fill(self, out: Values, column: Values) -> None:
        number, table = self._told
        out[:] = table[known_codes(column, number)]

    def fill_apart(self, out: Values, column: Values, target: Values, classes: int, seed: int) -> None:
        """The means of the training rows themselves, each by the rows of the other folds alone."""
        _, codes = coded(column)
        out[:, : len(self.overall)] = means_apart(codes, _aims(target, classes), np.array(self.overall), seed)


MISSING = "\0missing"


def coded(column: Values) -> tuple[list[Any], Values]:
    """The values of a column of objects in the order in which they turn up, and each row's place among them."""
    cells: list[Any] = column.tolist()
    names = list(dict.fromkeys(cells))
    return names, known_codes(column, {name: place for place, name in enumerate(names)})


def known_codes(column: Values, number: dict[Any, Any]) -> Values:
    """Each row's number, int64 [rows]; -1 for values that have none."""
    return np.fromiter(map(number.get, column.tolist(), repeat(-1)), np.int64, len(column))


def means_apart(codes: Values, aims: Values, overall: Values, seed: int) -> Values:
    """The smoothed means of `aims` [rows, aims] among rows with the same code, each by rows of other folds alone."""
    values = int(codes.max(initial=-1)) + 1
    fold = np.random.default_rng(seed).permutation(len(codes)) % FOLDS
    cells = codes * FOLDS + fold
    count = np.bincount(cells, minlength=values * FOLDS).reshape(-1, FOLDS).astype(float)
    others = count.sum(axis=1, keepdims=True) - count
    made = np.empty(aims.shape)
    for place, aim in enumerate(aims.T):
        total = np.bincount(cells, weights=aim, minlength=values * FOLDS).reshape(-1, FOLDS)
        rest = total.sum(axis=1, keepdims=True) - total
        made[:, place] = ((rest + SMOOTHING * overall[place]) / (others + SMOOTHING))[codes, fold]
    return made


def _aims(target: Values, classes: int) -> Values:
    """What means are taken of: the number, or whether a row is of each class but the first; float64 [rows, aims]."""
    if not classes:
        return np.asarray(target, float).reshape(-1, 1)
    if classes > MOST_CLASSES:
        return np.zeros((len(target), 0))
    return np.stack([target == number for number in range(1, classes)], 1).astype(float)
