"""Honest probabilities: a temperature fitted on validation rows."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float64 [rows, classes]."""
    scaled = logits.astype(np.float64) / temperature
    powers: np.ndarray = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Mean -log p of the true classes."""
    chosen = softmax(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-300)).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature scaling (Guo et al. 2017): the divisor of the logits with the least negative log-likelihood.

    logits [rows, classes], labels [rows]; rows with label -1 are left out; 1.0 when none is left.
    """
    from scipy.optimize import minimize_scalar

    inside = labels >= 0
    if not inside.any():
        return 1.0
    found = minimize_scalar(
        lambda log: negative_log_likelihood(logits[inside], labels[inside], float(np.exp(log))),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
    )
    return float(np.exp(found.x))
