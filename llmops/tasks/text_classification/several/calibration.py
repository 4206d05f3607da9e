"""Honest probabilities of several labels: Platt scaling, fitted on validation rows. numpy alone when it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SPREAD = 1.0
"""Standard deviation, in log-odds, that the intercepts of labels are expected to have around the common one."""


def sigmoid(logits: Array) -> Array:
    """float64 of the same shape."""
    powers = np.exp(-np.abs(logits.astype(np.float64)))
    shares: Array = np.where(logits >= 0, 1.0, powers) / (1.0 + powers)
    return shares


def probabilities(logits: Array, slope: float, intercepts: Sequence[float]) -> Array:
    """Calibrated probabilities float64 [rows, labels] of logits [rows, labels]."""
    return sigmoid(slope * logits.astype(np.float64) + np.asarray(intercepts, np.float64))


def fit(logits: Array, truth: Array) -> tuple[float, list[float]]:
    """(slope, an intercept for each label) with the greatest likelihood (Platt 1999); (1, zeros) without rows.

    The slope is one for all labels. Each label's intercept is drawn towards the common one, as a normal prior of
    standard deviation SPREAD does, so that a label of few validation rows is not fitted to their chance.
    """
    from scipy.optimize import minimize

    labels = logits.shape[1]
    if not len(truth) or truth.all() or not truth.any():
        return 1.0, [0.0] * labels
    wide, true = logits.astype(np.float64), truth.astype(np.float64)

    def lost(values: Array) -> tuple[float, Array]:
        slope, common, own = np.exp(values[0]), values[1], values[2:]
        scaled = slope * wide + common + own
        negative = np.logaddexp(0.0, scaled) - true * scaled
        apart = sigmoid(scaled) - true
        by_label = apart.sum(0)
        gradient = np.concatenate([[slope * (apart * wide).sum(), by_label.sum()], by_label + own / SPREAD**2])
        return float(negative.sum() + (own**2).sum() / (2 * SPREAD**2)), gradient

    edges = [(np.log(0.05), np.log(20.0)), (-20.0, 20.0), *[(-20.0, 20.0)] * labels]
    found = minimize(lost, np.zeros(labels + 2), jac=True, method="L-BFGS-B", bounds=edges).x
    return float(np.exp(found[0])), [float(found[1] + own) for own in found[2:]]
