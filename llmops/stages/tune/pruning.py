"""Which trials are stopped early. Pure functions of the metric's values so far.

Optuna's pruners keep marks of their own in the study: killed between a mark and its verdict, they would
decide otherwise the second time. These look only at values, so a study that is carried on decides the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

Values = dict[int, float]
"""The validation metric after each epoch (from 1) of one trial, so that higher is better: a loss comes with its sign
turned."""

REDUCTION = 3
"""Successive halving keeps one in three at each rung."""
STARTUP = 2
"""The median of fewer trials than this says nothing."""


def hopeless(rule: Literal["median", "halving", "none"], mine: Values, earlier: Sequence[Values]) -> bool:
    """Whether the trial with the values `mine` should be stopped, seeing those of earlier trials."""
    if rule == "median":
        return below_median(mine, earlier)
    return rule == "halving" and falls_behind(mine, earlier)


def below_median(mine: Values, earlier: Sequence[Values]) -> bool:
    """The best value so far is below the median of the earlier trials' values at this epoch
    (the median stopping rule; Golovin et al. 2017, Vizier)."""
    epoch = max(mine)
    there = [values[epoch] for values in earlier if epoch in values]
    return len(there) >= STARTUP and max(mine.values()) < statistics.median(there)


def falls_behind(mine: Values, earlier: Sequence[Values]) -> bool:
    """At the rungs 1, 3, 9 .. epochs only the best third of all trials that reached the rung goes on
    (successive halving; Jamieson and Talwalkar 2016, in the asynchronous form of Li et al. 2020)."""
    epoch = max(mine)
    rung = 1
    while rung < epoch:
        rung *= REDUCTION
    if rung != epoch:
        return False
    there = sorted([mine[epoch], *(values[epoch] for values in earlier if epoch in values)], reverse=True)
    return mine[epoch] < there[max(len(there) // REDUCTION, 1) - 1]
