"""Categories as numbers: few values spread over columns, many values by what the target is where they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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
        counts = Counter(value for value in column.tolist() if value is not None)
        least = min(RARE_ROWS, max(2, RARE_SHARE * len(column))) if len(column) < 500 else RARE_ROWS
        frequent = [value for value, n in counts.most_common() if n >= least]
        if len(frequent) == len(counts) == 2:
            return cls(sorted(frequent)[:1])
        return cls(frequent)

    def fill(self, out: Values, column: Values) -> None:
        out[:] = 0.0
        number = {value: place for place, value in enumerate(self.values)}
        number[None] = len(self.values)  # type: ignore[index]
        codes = np.fromiter((number.get(value, -1) for value in column), np.int64, len(column))
        seen = np.flatnonzero(codes >= 0)
        out[seen, codes[seen]] = 1.0


@dataclass(frozen=True)
class TargetMeans:
    """The smoothed mean of the target at each value (of each class but the first, where there are classes), and the
    logarithm of how frequent it is. A value never seen gets the overall mean."""

    counts: dict[str, float]
    sums: dict[str, list[float]]
    overall: list[float]
    rows: int

    @classmethod
    def fit(cls, column: Values, target: Values, classes: int) -> TargetMeans:
        aims = _aims(target, classes)
        names, codes = _coded(column)
        counts = np.bincount(codes, minlength=len(names)).astype(float)
        sums = [np.bincount(codes, weights=aim, minlength=len(names)) for aim in aims.T]
        return cls(
            dict(zip(names, counts.tolist(), strict=True)),
            {name: [float(total[place]) for total in sums] for place, name in enumerate(names)},
            [float(mean) for mean in aims.mean(axis=0)],
            len(column),
        )

    def names(self, column: str) -> list[str]:
        """What the features are called."""
        means = [f"{column}: outcome" + (f" {n + 1}" if n else "") for n in range(len(self.overall))]
        return [*means, f"{column}: frequency"]

    def fill(self, out: Values, column: Values) -> None:
        told = {name: self._told(self.counts[name], self.sums[name]) for name in self.counts}
        unseen = self._told(0.0, [0.0] * len(self.overall))
        rows = [told.get(_named(value), unseen) for value in column]
        out[:] = np.array(rows, np.float32).reshape(len(column), -1)

    def fill_apart(self, out: Values, column: Values, target: Values, classes: int, seed: int) -> None:
        """The same for the training rows themselves, each by the rows of the other folds alone."""
        aims = _aims(target, classes)
        names, codes = _coded(column)
        fold = np.random.default_rng(seed).permutation(len(codes)) % FOLDS
        cells = codes * FOLDS + fold
        count = np.bincount(cells, minlength=len(names) * FOLDS).reshape(-1, FOLDS).astype(float)
        others = count.sum(axis=1, keepdims=True) - count
        for place, aim in enumerate(aims.T):
            total = np.bincount(cells, weights=aim, minlength=len(names) * FOLDS).reshape(-1, FOLDS)
            rest = total.sum(axis=1, keepdims=True) - total
            means = (rest + SMOOTHING * self.overall[place]) / (others + SMOOTHING)
            out[:, place] = means[codes, fold]

    def _told(self, count: float, sums: list[float]) -> list[float]:
        means = [(s + SMOOTHING * mean) / (count + SMOOTHING) for s, mean in zip(sums, self.overall, strict=True)]
        return [*means, float(np.log((count + 1) / (self.rows + 1)))]


MISSING = "\0missing"


def _named(value: Any) -> str:
    return MISSING if value is None else str(value)


def _coded(column: Values) -> tuple[list[str], Values]:
    number: dict[str, int] = {}
    codes = np.fromiter((number.setdefault(_named(value), len(number)) for value in column), np.int64, len(column))
    return list(number), codes


def _aims(target: Values, classes: int) -> Values:
    """What means are taken of: the number, or whether a row is of each class but the first; float64 [rows, aims]."""
    if not classes:
        return np.asarray(target, float).reshape(-1, 1)
    if classes > MOST_CLASSES:
        return np.zeros((len(target), 0))
    return np.stack([target == number for number in range(1, classes)], 1).astype(float)
