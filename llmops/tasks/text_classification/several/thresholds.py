"""From which probability on a label is given: a threshold for each label, chosen on validation rows for the metric.

Giving a label to a row gains 2 where it is right and costs a price either way. The labels that gain most have the best
F1 when the price is that very F1, so with calibrated probabilities the best threshold is half of it (Lipton, Elkan and
Narayanaswamy 2014, Optimal Thresholding of Classifiers to Maximize F1 Measure). For micro F1 the price is one for all
labels, for macro F1 each label has its own, and for exact sets it is 1: one half. A label's own best cut on few rows is
mostly chance (the same authors), so it is drawn towards the cut that is best for all labels together: by half where it
has STIFFNESS validation rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmops.tasks.ranking import ends_of_ties
from llmops.tasks.text_classification.several.calibration import sigmoid
from llmops.tasks.text_classification.several.metrics import counts, f1, figures

Array = np.ndarray[Any, Any]
STIFFNESS = 25.0
"""Validation rows with a label at which its own cut and the common one count the same. Measured with the model of
benchmarks/several_labels.py, thresholds chosen on 60 to 630 rows: its test rows' micro F1 is 0.3 to 1.5 points better
than with own cuts alone, and up to 0.8 better (once 0.3 worse) than with the common one alone."""
LEAST, MOST = 0.02, 0.98
"""A threshold lies between."""


def choose(metric: str, probabilities: Array, truth: Array) -> Array:
    """Thresholds float64 [labels] for calibrated probabilities [rows, labels] and what is true, bool [rows, labels];
    one half each without rows."""
    labels = probabilities.shape[1]
    if not len(truth):
        return np.full(labels, 0.5)
    common = common_cut(metric, probabilities, truth)
    prices = prices_of(metric, probabilities, truth, common)
    own = np.array([own_cut(*column) for column in zip(probabilities.T, truth.T, prices, strict=True)])
    rows = truth.sum(0)
    trust = np.where(np.isfinite(own), rows / (rows + STIFFNESS), 0.0)
    mixed = trust * log_odds(np.where(np.isfinite(own), own, common)) + (1 - trust) * log_odds(common)
    return sigmoid(mixed)


def common_cut(metric: str, probabilities: Array, truth: Array) -> float:
    """The one threshold that is best for all labels together: by the micro F1 of all decisions, for exact sets by how
    many decisions are right."""
    price = 1.0 if metric == "subset_accuracy" else None
    found = own_cut(probabilities.ravel(), truth.ravel(), price)
    return float(np.clip(found, LEAST, MOST)) if np.isfinite(found) else 0.5


def prices_of(metric: str, probabilities: Array, truth: Array, common: float) -> list[float | None]:
    """What giving each label costs; None: the F1 that its own best cut reaches."""
    labels = truth.shape[1]
    if metric == "f1_macro":
        return [None] * labels
    if metric == "subset_accuracy":
        return [1.0] * labels
    return [float(f1(counts(truth, probabilities >= common).sum(1)))] * labels


def own_cut(scores: Array, truth: Array, price: float | None) -> float:
    """The cut of one label's scores [rows] that gains most at this price (None: the one with the best F1), halfway
    between two of the scores. NaN where no row is true, or all are: nothing tells."""
    if not truth.any() or truth.all():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    given = np.arange(1, len(scores) + 1)
    right = truth[order].cumsum()
    worth = 2.0 * right / (given + right[-1]) if price is None else 2.0 * right - price * given
    best = int(np.argmax(np.where(ends_of_ties(ranked), worth, -np.inf)))  # rows with one score are given together
    if price is not None and worth[best] < 0:
        return MOST
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    return float(np.clip((ranked[best] + below) / 2, LEAST, MOST))


def at_common_cut(logits: Array, truth: Array) -> dict[str, float]:
    """What logits [rows, labels] are worth before there are thresholds: the metrics at the one cut of all labels that
    has the best micro F1 on these very rows."""
    shares, true = sigmoid(logits), truth.astype(bool)
    return figures(true, shares >= common_cut("f1_micro", shares, true), shares)


def log_odds(probability: Array | float) -> Array:
    """The logit of a probability between 0 and 1."""
    share = np.asarray(probability, np.float64)
    odds: Array = np.log(share / (1.0 - share))
    return odds
