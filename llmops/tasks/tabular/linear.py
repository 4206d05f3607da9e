"""The linear model: logistic regression, or ridge regression for a number, on standardised features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmops.tasks.tabular.arrays import Arrays
from llmops.tasks.tabular.blend import loss
from llmops.tasks.tabular.config import LinearSection
from llmops.tasks.tabular.fitted import LinearFitted, standardised

Floats = np.ndarray[Any, Any]
MOST_ROWS = 200_000
"""More rows make a linear model hardly better."""
FEW_ROWS = 2_000
"""Up to so many rows `strength: auto` compares strengths; above, the penalty hardly matters, and 1 is taken."""
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
PARTS = 5


def fit_linear(rows: Arrays, classes: int, settings: LinearSection, directions: Sequence[int]) -> LinearFitted:
    """Fitted on all rows. A feature whose weight has the wrong sign for its direction is left out, and the others are
    fitted again, until all directions hold; of more than two classes no direction is asked."""
    data = rows.take(np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)) if len(rows) > MOST_ROWS else rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a single value has no mean
        mean = np.nan_to_num(np.asarray(np.nanmean(data.x, axis=0, dtype=np.float64)))
        scale = np.asarray(np.nanstd(data.x, axis=0, dtype=np.float64))
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    z = standardised(data.x, mean, scale)
    used = np.ptp(z, axis=0) > 0
    strength = chosen_strength(z[:, used], data, classes) if settings.strength == "auto" else settings.strength
    wanted = np.array([*directions, *([0] * len(directions))]) * (classes <= 2)
    while True:
        weights = np.zeros((z.shape[1], classes if classes > 2 else 1))
        weights[used], bias = _fit(z[:, used], data, classes, strength)
        wrong = used & (weights[:, 0] * wanted < 0)
        if not wrong.any():
            return LinearFitted(mean, scale, weights, bias)
        used &= ~wrong


def chosen_strength(z: Floats, data: Arrays, classes: int) -> float:
    """The least strength among `STRENGTHS` whose cross-validated loss is within one standard error of the best (the
    rule of Breiman et al. 1984): a plainer model than the best is as good a guess."""
    if len(data) > FEW_ROWS or len(data) < 2 * PARTS:
        return 1.0
    part = data.parts(PARTS, classes, seed=0)
    losses = np.zeros((len(STRENGTHS), PARTS))
    for number in range(PARTS):
        inside, outside = np.flatnonzero(part != number), np.flatnonzero(part == number)
        rows, held_out = data.take(inside), data.take(outside)
        for place, strength in enumerate(STRENGTHS):
            weights, bias = _fit(z[inside], rows, classes, strength)
            losses[place, number] = loss(z[outside] @ weights + bias, held_out.y, held_out.weight, classes)
    best = int(np.argmin(losses.mean(axis=1)))
    bound = losses[best].mean() + losses[best].std(ddof=1) / np.sqrt(PARTS)
    return STRENGTHS[int(np.argmax(losses.mean(axis=1) <= bound))]


def _fit(z: Floats, data: Arrays, classes: int, strength: float) -> tuple[Floats, Floats]:
    """(weights [features, outputs], bias [outputs])."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    if not classes:
        ridge = Ridge(alpha=1.0 / strength).fit(z, data.y, data.weight) if z.shape[1] else None
        if ridge is None:
            return np.zeros((0, 1)), data.overall(0)
        return ridge.coef_.reshape(-1, 1), np.array([ridge.intercept_])
    present = np.flatnonzero(np.bincount(data.y, minlength=classes))
    if len(present) == 1 or not z.shape[1]:
        return np.zeros((z.shape[1], classes if classes > 2 else 1)), data.overall(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is near enough
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-4).fit(z, data.y, data.weight)
    if classes == 2:
        return model.coef_.T, model.intercept_
    weights, bias = np.zeros((z.shape[1], classes)), data.overall(classes)  # of those not present
    bias[present] = 0.0
    told = present[1:] if len(present) == 2 else present  # of two the second's log-odds alone are told
    weights[:, told], bias[told] = model.coef_.T, model.intercept_
    return weights, bias
