"""The linear model: logistic regression, or ridge regression for a number, on standardised features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.config import LinearSection
from llmops.tasks.tabular.fitted import LinearFitted, standardised

MOST_ROWS = 200_000
"""More rows make a linear model hardly better."""


def fit_linear(rows: Arrays, classes: int, settings: LinearSection, directions: Sequence[int]) -> LinearFitted:
    """Fitted on all rows. A feature whose weight has the wrong sign for its direction is left out, and the others are
    fitted again, until all directions hold."""
    data = rows.take(np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)) if len(rows) > MOST_ROWS else rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a single value has no mean
        mean, scale = np.nanmean(data.x, axis=0, dtype=np.float64), np.nanstd(data.x, axis=0, dtype=np.float64)
    mean = np.nan_to_num(mean)
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    z = standardised(data.x, mean, scale)
    used = np.ptp(z, axis=0) > 0
    wanted = np.array([*directions, *([0] * len(directions))])
    while True:
        weights = np.zeros((z.shape[1], max(1, classes if classes > 2 else 1)))
        weights[used], bias = _fit(z[:, used], data, classes, settings)
        wrong = used & (wanted != 0) & (weights[:, 0] * wanted < 0)
        if not wrong.any():
            return LinearFitted(mean, scale, weights, bias)
        used &= ~wrong


def _fit(z: np.ndarray, data: Arrays, classes: int, settings: LinearSection) -> tuple[np.ndarray, np.ndarray]:
    """(weights [features, outputs], bias [outputs])."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    if not z.shape[1]:
        return np.zeros((0, max(1, classes if classes > 2 else 1))), np.zeros(max(1, classes if classes > 2 else 1))
    if not classes:
        ridge = Ridge(alpha=1.0 / settings.strength).fit(z, data.y, data.weight)
        return ridge.coef_.reshape(-1, 1), np.array([ridge.intercept_])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is near enough
        model = LogisticRegression(C=settings.strength, max_iter=300, tol=1e-4)
        model.fit(z, data.y, data.weight)
    return model.coef_.T, model.intercept_
