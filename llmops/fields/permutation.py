"""Two-sample permutation tests with an effect size: how large a shift is, and how often chance alone shows it.

Every effect lies between 0 (alike) and 1 (nothing in common) and is corrected for chance: what two samples of
one distribution show on average at these sizes counts as 0, so that few rows don't look like a large shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROUNDS = 999
TAIL = 0.05
"""Share of the permutations that tell how their tail falls off."""
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Shift:
    """What a test found: the effect (0..1, corrected for chance) and the p-value of its permutation test."""

    effect: float
    p: float


def against_chance(found: float, chance: Floats) -> Shift:
    """`found` against the same figure on permuted rows; p counts the real order too (Phipson and Smyth 2010)."""
    expected = float(chance.mean())
    effect = max(0.0, (found - expected) / max(1.0 - expected, 1e-12))
    # A hair of tolerance: equal figures that were summed in another order must count as equal.
    reached = int(np.count_nonzero(chance >= found - 1e-12))
    p = (1 + reached) / (1 + len(chance))
    return Shift(effect, p if reached else min(p, tail(found, chance)))


def tail(found: float, chance: Floats) -> float:
    """How likely chance is to reach what none of the permutations did, as their own tail tells (Knijnenburg et al.
    2009); with many columns to test, a p-value could else never be small enough. The excess over a high quantile is
    taken to fall off exponentially: these figures fall off faster, so that p is rather too large."""
    limit = float(np.quantile(chance, 1 - TAIL))
    excess = chance[chance > limit] - limit
    if not len(excess):
        return 1.0
    return float(TAIL * np.exp(-(found - limit) / excess.mean()))


def mix_shift(old: Sequence[str], new: Sequence[str], rng: np.random.Generator) -> Shift:
    """Total variation distance between two mixes of labels: the share of rows that changed their label."""
    names, codes = np.unique(np.array([*old, *new]), return_inverse=True)
    total = np.bincount(codes, minlength=len(names))
    counts = np.bincount(codes[: len(old)], minlength=len(names))

    def distance(of_old: Any) -> Any:
        return 0.5 * np.abs(of_old / len(old) - (total - of_old) / len(new)).sum(axis=-1)

    drawn = rng.multivariate_hypergeometric(total, len(old), size=ROUNDS, method="marginals")
    return against_chance(float(distance(counts)), distance(drawn))


def share_shift(old: Sequence[Sequence[str]], new: Sequence[Sequence[str]], rng: np.random.Generator) -> Shift:
    """Rows that hold any number of names each: the largest change of the share of rows that hold one."""
    rows = [*old, *new]
    names = {name: place for place, name in enumerate(sorted({name for row in rows for name in row}))}
    holds = np.zeros((len(rows), len(names)), np.float32)
    for place, row in enumerate(rows):
        holds[place, [names[name] for name in row]] = 1
    total = holds.sum(axis=0)

    def distance(of_old: Any) -> Any:
        return np.abs(of_old / len(old) - (total - of_old) / len(new)).max(axis=-1)

    drawn = np.zeros((ROUNDS, len(rows)), np.float32)
    for draw in drawn:
        draw[rng.permutation(len(rows))[: len(old)]] = 1
    return against_chance(float(distance(holds[: len(old)].sum(axis=0))), distance(drawn @ holds))


def value_shift(old: Floats, new: Floats, rng: np.random.Generator) -> Shift:
    """Kolmogorov-Smirnov distance between two samples of a number: the largest gap of their cumulative shares."""
    values = np.concatenate([old, new])
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) > 0, True))  # between equal values there is no gap
    is_new = np.repeat([False, True], [len(old), len(new)])

    def distance(member: Any) -> float:
        grown = np.cumsum(member)[ends]
        return float(np.abs(grown / len(new) - (ends + 1 - grown) / len(old)).max())

    chance = np.array([distance(rng.permutation(is_new)) for _ in range(ROUNDS)])
    return against_chance(distance(is_new[order]), chance)


def rise(old: Floats, new: Floats, rng: np.random.Generator) -> Shift:
    """How much larger a number became: Cliff's delta, the chance that a new value is above an old one minus the
    chance that it is below."""
    ranks = mid_ranks(np.concatenate([old, new])[:, None])[:, 0]

    def delta(new_ranks: Any) -> float:
        return float(2.0 * (new_ranks.mean() - (len(new) + 1) / 2) / len(old) - 1.0)

    chance = np.array([delta(rng.permutation(ranks)[: len(new)]) for _ in range(ROUNDS)])
    return against_chance(delta(ranks[len(old) :]), chance)


def mid_ranks(columns: Floats) -> Floats:
    """Ranks from 1 within each column; equal values share the mean of their ranks."""
    order = np.argsort(columns, axis=0, kind="stable")
    ordered = np.take_along_axis(columns, order, axis=0)
    rows, width = columns.shape
    place = np.arange(rows)[:, None]
    first = np.vstack([np.ones((1, width), bool), np.diff(ordered, axis=0) > 0])
    last = np.vstack([first[1:], np.ones((1, width), bool)])
    begins = np.maximum.accumulate(np.where(first, place, 0), axis=0)
    ends = np.minimum.accumulate(np.where(last, place, rows - 1)[::-1], axis=0)[::-1]
    ranks = np.empty((rows, width))
    np.put_along_axis(ranks, order, (begins + ends) / 2.0 + 1.0, axis=0)
    return ranks


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing several things at once (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted, worst = [1.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return adjusted
