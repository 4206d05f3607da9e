"""Honest probabilities and the threshold below which the server abstains, both chosen on validation rows."""

from __future__ import annotations

import numpy as np

KEPT_RIGHT = 0.98
"""Without out-of-scope rows: share of the rightly answered validation rows that must still be answered."""


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


def choose_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The threshold for abstaining: answers whose probability is below it are withheld.

    probabilities [rows, classes], labels [rows]. With out-of-scope rows (label -1) it maximises
    (outside recall + in-scope coverage) / 2; without, it keeps 98 % of the rightly answered rows.
    """
    best = probabilities.max(1)
    outside = labels < 0
    if outside.any() and not outside.all():
        return best_cut(np.sort(best[~outside]), np.sort(best[outside]))
    right = np.sort(best[probabilities.argmax(1) == labels])
    return float(right[int(len(right) * (1.0 - KEPT_RIGHT))]) if len(right) else 0.0


def best_cut(inside: np.ndarray, outside: np.ndarray) -> float:
    """Halfway between two neighbouring probabilities, where the balanced share of right decisions is largest."""
    edges = np.unique(np.concatenate([inside, outside]))
    cuts = np.concatenate([[0.0], (edges[1:] + edges[:-1]) / 2])
    withheld = np.searchsorted(outside, cuts, side="left") / len(outside)
    answered = 1.0 - np.searchsorted(inside, cuts, side="left") / len(inside)
    return float(cuts[int(np.argmax(withheld + answered))])


def abstention(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float | None]:
    """What a threshold does: {"outside_recall": share of out-of-scope rows withheld (None without such rows),
    "coverage": share of in-scope rows answered, "answered_accuracy": accuracy on those}."""
    best, answers = probabilities.max(1), probabilities.argmax(1)
    outside, given = labels < 0, best >= threshold
    inside = ~outside & given
    return {
        "outside_recall": float((~given[outside]).mean()) if outside.any() else None,
        "coverage": float(given[~outside].mean()) if (~outside).any() else None,
        "answered_accuracy": float((answers[inside] == labels[inside]).mean()) if inside.any() else None,
    }
