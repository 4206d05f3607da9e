"""The 95 % interval of any figure of rows, by drawing the rows again and again (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from llmops.core.intervals import wilson

DRAWS = 200
"""Resamples of an interval."""
MOST_DRAWN = 50_000
"""Rows up to which a report has such intervals."""
MOST_CELLS = 500_000
"""Rows times classes up to which figures of probabilities have such intervals."""
Places = np.ndarray[Any, Any]


def bootstrap(figure: Callable[[Places], float], rows: int, seed: int = 0) -> tuple[float, float]:
    """The interval of `figure`, which takes the places of rows, over resamples; the same for the same seed. Where all
    of them give 0, or all 1, it is that of a share of so many rows (Wilson's)."""
    rng = np.random.default_rng(seed)
    drawn = [figure(rng.integers(0, rows, rows)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    if low == high in (0.0, 1.0):  # a share of which no row says otherwise; more rows might
        return wilson(float(low), rows)
    return float(low), float(high)
